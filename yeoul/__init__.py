"""Yeoul: an LLM inference and serving engine. Public names are loaded at first use, so a worker never loads the web."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yeoul.llm import LLM as LLM
    from yeoul.messages.sampling import SamplingParams as SamplingParams
    from yeoul.web_process.engine.async_llm import AsyncLLM as AsyncLLM

__version__ = "0.1.0"
IMPORTED_AT = time.monotonic()  # all before it is the interpreter's own start
__all__ = ["LLM", "AsyncLLM", "SamplingParams", "__version__"]

_HOMES = {
    "LLM": "yeoul.llm",
    "AsyncLLM": "yeoul.web_process.engine.async_llm",
    "SamplingParams": "yeoul.messages.sampling",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yeoul' has no attribute {name!r}; it has {', '.join(__all__)}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
