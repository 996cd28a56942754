"""Which file builds which architecture; knows nothing of weights or files. Called by ``models.loading``."""

from __future__ import annotations

from collections.abc import Callable

from yeoul.errors import ModelFileError
from yeoul.layers.parallel import TensorParallel
from yeoul.layers.weight_source import WeightSource
from yeoul.model_files.description import ModelDescription
from yeoul.models.gemma3 import build_gemma3
from yeoul.models.llama import build_llama
from yeoul.models.model import Model

ModelBuilder = Callable[[WeightSource, ModelDescription, TensorParallel], Model]

BUILDERS: dict[str, ModelBuilder] = {
    "llama": build_llama,
    "mistral": build_llama,
    "qwen2": build_llama,
    "qwen3": build_llama,
    "gemma3": build_gemma3,
}


def builder_of(architecture: str) -> ModelBuilder:
    """The function that builds an architecture; raises ModelFileError for one that has no torch model."""
    builder = BUILDERS.get(architecture)
    if builder is None:
        raise ModelFileError(f"no model computes the architecture {architecture!r}; expected one of {', '.join(BUILDERS)}")
    return builder
