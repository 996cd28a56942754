"""Which files of a model hub repository are needed; knows nothing of networks. hub_fetch.py calls it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote

from yeoul.errors import ModelFileError
from yeoul.model_files.gguf_names import matching_names, part_names
from yeoul.model_files.rerank_source import LOGIT_SCORE
from yeoul.model_files.safetensors_folder import INDEX_NAME, SINGLE_NAME

TEXT_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    LOGIT_SCORE,
)
SHARD_NAME = re.compile(r"model-\d+-of-\d+\.safetensors")
MAX_NAMES_SHOWN = 12
_ADDRESS = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://", re.IGNORECASE)
_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?::(.+))?", re.ASCII)
# What the hub's pages have behind a repository's name: a revision, and a folder or file of it.
_PAGE = re.compile(r"([\w.-]+/[\w.-]+)/(?:blob|resolve|tree)/([^/]+)(?:/(.+))?", re.ASCII)


class HubReference(NamedTuple):
    """``org/name`` and, behind a colon, a file of it, a quantisation such as ``Q4_K_M``, or a part of a file's name."""

    repository: str
    file: str | None
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubReference | None:
        """Also ``hf.co/org/name:Q4_K_M`` and the addresses of the hub's pages. None if the text cannot be a hub id."""
        address = _ADDRESS.match(text)
        if address is not None:
            text = unquote(text[address.end() :].split("?")[0].split("#")[0]).rstrip("/")
        page = _PAGE.fullmatch(text) if address is not None else None
        match = page or _REPOSITORY.fullmatch(text)
        if match is None or ".." in match[1] or match[1].startswith((".", "/")):
            return None
        if page is not None:
            return cls(page[1], page[3], page[2])
        return cls(match[1], match[2])


class HubChoice(NamedTuple):
    """What to fetch. ``gguf_name`` is the model itself, or its first part, where it is a GGUF file."""

    names: list[str]
    gguf_name: str | None


def choose_model_files(reference: HubReference, names: Iterable[str]) -> HubChoice:
    """The GGUF file that was asked for, else config, tokenizer and safetensors, else the GGUF file that stands out.

    Raises ModelFileError that lists what there is.
    """
    ordered = sorted(name for name in names if not name.startswith("/") and ".." not in name.split("/"))
    weights = _weight_names(ordered) if reference.file is None else []
    if weights and "config.json" in ordered:
        return HubChoice([*choose_text_files(ordered), *weights], None)
    gguf_names = [name for name in ordered if name.lower().endswith(".gguf")]
    found = matching_names(gguf_names, reference.file)
    if len(found) == 1:
        parts = part_names(found[0])
        if missing := set(parts) - set(gguf_names):
            raise ModelFileError(f"{reference.repository} lacks {len(missing)} of {len(parts)} parts, {min(missing)} is one")
        return HubChoice(parts, found[0])
    if reference.file is not None:
        problem = "no GGUF file" if not found else f"{len(found)} GGUF files"
        raise ModelFileError(
            f"{reference.repository} has {problem} matching {reference.file!r}; expected one of {_shown(found or gguf_names)}"
        )
    if found:
        raise ModelFileError(
            f"{reference.repository} has {len(found)} GGUF files; choose one, as {reference.repository}:FILE. "
            f"There are {_shown(found)}"
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


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return (", ".join(names[:MAX_NAMES_SHOWN]) or "no such files") + more
