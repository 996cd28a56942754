"""Which files of a model hub repository are needed; knows nothing of networks. hub_fetch.py calls it."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterable
from typing import NamedTuple

from yeoul.errors import ModelFileError
from yeoul.model_files.safetensors_folder import INDEX_NAME, SINGLE_NAME

TEXT_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)
SHARD_NAME = re.compile(r"model-\d+-of-\d+\.safetensors")
PREFERRED_GGUF = "q4_k_m"
MAX_NAMES_SHOWN = 12


class HubReference(NamedTuple):
    """``org/name`` and, behind a colon, a file of it or a part of a file's name such as ``Q4_K_M``."""

    repository: str
    file: str | None

    @classmethod
    def parse(cls, text: str) -> HubReference | None:
        """None if the text cannot be a hub id."""
        match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?::(.+))?", text, flags=re.ASCII)
        if match is None or ".." in match[1] or match[1].startswith((".", "/")):
            return None
        return cls(match[1], match[2])


class HubChoice(NamedTuple):
    """What to fetch. ``gguf_name`` is the model itself where it is one GGUF file."""

    names: list[str]
    gguf_name: str | None


def choose_model_files(reference: HubReference, names: Iterable[str]) -> HubChoice:
    """The GGUF file that was asked for, else config, tokenizer and safetensors, else the GGUF file that stands out.

    Raises ModelFileError that lists what there is.
    """
    ordered = sorted(name for name in names if not name.startswith("/") and ".." not in name.split("/"))
    gguf_names = [name for name in ordered if name.lower().endswith(".gguf")]
    if reference.file is not None:
        gguf_name = _match(reference, reference.file, gguf_names)
        return HubChoice([gguf_name], gguf_name)
    weights = _weight_names(ordered)
    if weights and "config.json" in ordered:
        return HubChoice([*choose_text_files(ordered), *weights], None)
    if len(gguf_names) > 1:
        gguf_names = [name for name in gguf_names if PREFERRED_GGUF in name.lower()] or gguf_names
    if len(gguf_names) == 1:
        return HubChoice(gguf_names, gguf_names[0])
    if gguf_names:
        raise ModelFileError(
            f"{reference.repository} has {len(gguf_names)} GGUF files; choose one, as {reference.repository}:FILE. "
            f"There are {_shown(gguf_names)}"
        )
    raise ModelFileError(
        f"{reference.repository} has no weights that this version can read; expected config.json with .safetensors files, "
        f"or a .gguf file. There are {_shown(ordered)}"
    )


def choose_text_files(names: Iterable[str]) -> list[str]:
    """The files that describe the model and its text side."""
    return [name for name in sorted(names) if any(fnmatch.fnmatchcase(name, pattern) for pattern in TEXT_FILES)]


def _weight_names(names: list[str]) -> list[str]:
    if INDEX_NAME in names:
        plain = [name for name in names if name.endswith(".safetensors") and "/" not in name]
        return [INDEX_NAME, *([name for name in plain if SHARD_NAME.fullmatch(name)] or plain)]
    return [SINGLE_NAME] if SINGLE_NAME in names else []


def _match(reference: HubReference, wanted: str, gguf_names: list[str]) -> str:
    exact = [name for name in gguf_names if wanted in (name, posixpath.basename(name))]
    found = exact or [name for name in gguf_names if wanted.lower() in name.lower()]
    if len(found) != 1:
        problem = "no GGUF file" if not found else f"{len(found)} GGUF files"
        raise ModelFileError(
            f"{reference.repository} has {problem} matching {wanted!r}; expected one of {_shown(found or gguf_names)}"
        )
    return found[0]


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return (", ".join(names[:MAX_NAMES_SHOWN]) or "no such files") + more
