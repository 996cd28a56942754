"""What the known architectures are called in each kind of file, and checks on shapes; knows nothing of files."""

from __future__ import annotations

from typing import Final

from yeoul.errors import ModelFileError
from yeoul.model_files.description import Architecture, ModelDescription, RopeScaling
from yeoul.model_files.typed_fields import MAX_SIZE

# general.architecture of a GGUF file; Mistral is llama there.
GGUF_ARCHITECTURES: Final[dict[str, Architecture]] = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3": "gemma3",
}

# "architectures" of config.json.
CONFIG_ARCHITECTURES: Final[dict[str, Architecture]] = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Gemma3ForCausalLM": "gemma3",
    "Gemma3ForConditionalGeneration": "gemma3",
}


def stretched_context(max_position_embeddings: int, scaling: RopeScaling) -> int:
    """The context in tokens: YaRN multiplies the one that it names; other kinds of scaling are counted in already."""
    if scaling.kind != "yarn":
        return max_position_embeddings
    stretched = min(scaling.original_max_position_embeddings * scaling.factor, float(MAX_SIZE - 1))
    return max(max_position_embeddings, round(stretched))


def check_shape(origin: str, description: ModelDescription) -> ModelDescription:
    """The description itself, if a decoder can have these sizes; otherwise ModelFileError that names what does not fit."""
    if description.num_heads % description.num_kv_heads:
        raise ModelFileError(
            f"{origin}: {description.num_heads} attention heads cannot share {description.num_kv_heads} key-value heads; "
            "expected a multiple"
        )
    if description.head_dim % 2:
        raise ModelFileError(f"{origin}: rotary embedding needs an even head size, found {description.head_dim}")
    if description.sliding_window and len(description.sliding_layers) != description.num_layers:
        raise ModelFileError(
            f"{origin}: expected one attention kind for each of {description.num_layers} layers, "
            f"found {len(description.sliding_layers)}"
        )
    return description
