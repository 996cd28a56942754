"""What the names of GGUF files tell: which hold a model, of which quantisation, and which are parts of one; opens none.

The rules are llama.cpp's (common/download.cpp), but where it takes the first of several that fit, the user is asked.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable

# Files beside a model: image projectors, importance matrices, drafters.
_NO_MODEL = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
# What llama-quantize calls these two ways.
_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
_PREFERRED = ("Q4_K_M", "Q8_0")


def model_names(names: Iterable[str]) -> list[str]:
    """The files that are a model, or the first part of one, in order."""
    return sorted(
        name for name in names if _is_model(name) and ((part := _PART.fullmatch(name)) is None or int(part[2]) == 1)
    )


def without_ending(name: str) -> str:
    """What a GGUF file is called, without the part that it is."""
    part = _PART.fullmatch(name)
    return part[1] if part is not None else os.path.splitext(name)[0]


def part_names(name: str) -> list[str]:
    """All parts of the model that this file is a part of, the first one first; the name itself of a whole model."""
    part = _PART.fullmatch(name)
    if part is None or int(part[3]) < 2:
        return [name]
    count = int(part[3])
    return [f"{part[1]}-{number:05}-of-{count:05}{name[-5:]}" for number in range(1, count + 1)]


def existing_parts(path: str) -> list[str]:
    """The model's file and its other parts, as far as they are there: a file may have a part's name and be whole."""
    first, *others = part_names(path)
    return [first, *filter(os.path.exists, others)]


def matching_names(names: Iterable[str], wanted: str | None) -> list[str]:
    """The models that ``wanted`` may mean: a file's name, else a quantisation, else a part of a name; None: the preferred."""
    models = model_names(names)
    if wanted is None:
        return next((found for tag in _PREFERRED if (found := _of_quantization(models, tag))), models)
    exact = [name for name in names if wanted.lower() in (name.lower(), posixpath.basename(name).lower())]
    if exact:
        return [part_names(exact[0])[0]]
    tags = [wanted, *([_ALIASES[wanted.upper()]] if wanted.upper() in _ALIASES else [])]
    tagged = next((found for tag in tags if (found := _of_quantization(models, tag))), [])
    return tagged or [name for name in models if wanted.lower() in name.lower()]


def _is_model(name: str) -> bool:
    file = posixpath.basename(name).lower()
    return file.endswith(".gguf") and not any(mark in file for mark in _NO_MODEL)


def _of_quantization(models: list[str], tag: str) -> list[str]:
    """Those with the whole tag in the file's name: ``Q4_0`` is neither ``IQ4_0`` nor ``Q4_0_4_4``."""
    pattern = re.compile(rf"(?<![A-Za-z0-9]){re.escape(tag)}(?=[.-])", re.IGNORECASE)
    return [name for name in models if pattern.search(posixpath.basename(name))]
