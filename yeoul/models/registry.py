"""Which file has the layers of which architecture; knows nothing of weights or files. Called by ``models.loading``."""

from __future__ import annotations

from yeoul.errors import ModelFileError
from yeoul.models.decoder import LayerBuilder
from yeoul.models.gemma3 import Gemma3Layer
from yeoul.models.llama import LlamaLayer

LAYERS: dict[str, LayerBuilder] = {
    "llama": LlamaLayer,
    "mistral": LlamaLayer,
    "qwen2": LlamaLayer,
    "qwen3": LlamaLayer,
    "gemma3": Gemma3Layer,
}


def layer_of(architecture: str) -> LayerBuilder:
    """What builds a layer of an architecture; raises ModelFileError for one that has no torch model."""
    layer = LAYERS.get(architecture)
    if layer is None:
        raise ModelFileError(f"no model computes the architecture {architecture!r}; expected one of {', '.join(LAYERS)}")
    return layer
