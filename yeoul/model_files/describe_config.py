"""A ModelDescription from a Hugging Face folder's config.json; knows nothing of torch. describe.py calls it.

Both spellings are read: transformers 4 (rope_theta, rope_scaling, torch_dtype) and 5 (rope_parameters, dtype). A field
that the file leaves out has the default of that architecture's configuration class in transformers.
"""

from __future__ import annotations

import math
import os
from typing import Literal

from yeoul.errors import ModelFileError
from yeoul.model_files.architectures import CONFIG_ARCHITECTURES, check_shape, stretched_context
from yeoul.model_files.describe_rope import read_rope
from yeoul.model_files.description import Architecture, ModelDescription
from yeoul.model_files.mapped_file import MappedTensor
from yeoul.model_files.safetensors_folder import map_tensors
from yeoul.model_files.typed_fields import TypedFields, read_json_fields

SLIDING = "sliding_attention"
FULL = "full_attention"

DEFAULTS: dict[Architecture, dict[str, object]] = {
    "llama": {"vocab_size": 32000, "max_position_embeddings": 2048},
    "mistral": {"vocab_size": 32000, "max_position_embeddings": 131072, "num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": {"vocab_size": 151936, "max_position_embeddings": 32768, "num_key_value_heads": 32, "sliding_window": 4096},
    "qwen3": {
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "sliding_window": 4096,
    },
    "gemma3": {
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "sliding_window": 4096,
        "query_pre_attn_scalar": 256,
        "tie_word_embeddings": True,
    },
}
Activation = Literal["silu", "gelu_tanh"]
ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}
SAFETENSORS_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def describe_folder(path: str) -> ModelDescription:
    """Reads config.json and the weight files' headers. Raises ModelFileError for anything missing or unknown."""
    if not os.path.isdir(path):
        raise ModelFileError(f"{path!r} is not a model folder; expected a folder with config.json and .safetensors files")
    config = read_json_fields(os.path.join(path, "config.json"))
    if config is None:
        raise ModelFileError(f"{path} has no config.json; expected a Hugging Face model folder")
    architecture = _architecture(config)
    if config.get("quantization_config") is not None:
        raise ModelFileError(f"{config.origin}: quantised folders are not supported; use the plain weights or a GGUF file")
    text = config.group("text_config") or config
    fields = TypedFields(text.origin, DEFAULTS[architecture] | {k: v for k, v in text.values.items() if _is_set(k, v)})
    return check_shape(config.origin, _describe(fields, config, architecture, map_tensors(path)))


def _is_set(key: str, value: object) -> bool:
    """A null means "the default", but for the window, where it means "none"."""
    return value is not None or key == "sliding_window"


def _architecture(config: TypedFields) -> Architecture:
    names = config.items("architectures", str) or []
    for name in names:
        if name in CONFIG_ARCHITECTURES:
            return CONFIG_ARCHITECTURES[name]
    raise ModelFileError(
        f"{config.origin} names the unknown architecture {', '.join(names) or None}; "
        f"this version knows {', '.join(CONFIG_ARCHITECTURES)}"
    )


def _describe(
    fields: TypedFields, config: TypedFields, architecture: Architecture, tensors: dict[str, MappedTensor]
) -> ModelDescription:
    gemma = architecture == "gemma3"
    num_layers = fields.size("num_hidden_layers")
    hidden_size = fields.size("hidden_size")
    num_heads = fields.size("num_attention_heads")
    head_dim = fields.size("head_dim", max(1, hidden_size // num_heads))
    rope = read_rope(fields, gemma)
    bias = architecture in ("llama", "qwen3", "gemma3") and fields.boolean("attention_bias", False)
    sliding_layers = _sliding_layers(fields, architecture, num_layers)
    if not fields.boolean("is_causal", True) or (gemma and fields.boolean("use_bidirectional_attention", False)):
        raise ModelFileError(f"{fields.origin}: its attention looks ahead too; expected a decoder that looks back only")
    return ModelDescription(
        architecture=architecture,
        file_format="safetensors",
        num_layers=num_layers,
        hidden_size=hidden_size,
        intermediate_size=fields.size("intermediate_size"),
        num_heads=num_heads,
        num_kv_heads=fields.size("num_key_value_heads", num_heads),
        head_dim=head_dim,
        vocab_size=fields.size("vocab_size"),
        max_position_embeddings=stretched_context(fields.size("max_position_embeddings"), rope.scaling),
        rms_norm_eps=fields.positive("rms_norm_eps", 1e-6),
        attention_scale=(fields.positive("query_pre_attn_scalar") if gemma else head_dim) ** -0.5,
        rope_theta=rope.theta,
        rope_scaling=rope.scaling,
        rope_local_theta=rope.local_theta,
        sliding_window=fields.size("sliding_window") if any(sliding_layers) else 0,
        sliding_layers=sliding_layers if any(sliding_layers) else [],
        tie_word_embeddings=_is_tied(fields, config),
        attention_bias=bias or architecture == "qwen2",
        attention_output_bias=bias,
        mlp_bias=architecture == "llama" and fields.boolean("mlp_bias", False),
        qk_norm=architecture in ("qwen3", "gemma3"),
        post_norms=gemma,
        norm_weight_offset=1.0 if gemma else 0.0,
        activation=_activation(fields, "hidden_activation" if gemma else "hidden_act"),
        embedding_scale=math.sqrt(hidden_size) if gemma else 1.0,
        final_logit_softcap=fields.optional_number("final_logit_softcapping") if gemma else None,
        attention_logit_softcap=fields.optional_number("attn_logit_softcapping") if gemma else None,
        weights_dtype=_weights_dtype(fields, config, tensors),
    )


def _sliding_layers(fields: TypedFields, architecture: Architecture, num_layers: int) -> list[bool]:
    """One bool a layer; empty where the architecture has no window or the file switches it off."""
    windowed = fields.get("sliding_window") is not None
    if architecture == "mistral":
        return [windowed] * num_layers
    if architecture == "llama" or not windowed:
        return []
    if architecture != "gemma3" and not fields.boolean("use_sliding_window", False):
        return []
    kinds = fields.items("layer_types", str)
    if kinds is not None:
        if len(kinds) != num_layers or not set(kinds) <= {SLIDING, FULL}:
            raise fields.wrong("layer_types", f"{num_layers} entries of {SLIDING} or {FULL}")
        return [kind == SLIDING for kind in kinds]
    if architecture == "gemma3":
        pattern = fields.size("_sliding_window_pattern", fields.size("sliding_window_pattern", 6))
        return [(layer + 1) % pattern != 0 for layer in range(num_layers)]
    return [layer >= fields.number("max_window_layers", 28) for layer in range(num_layers)]


def _is_tied(fields: TypedFields, config: TypedFields) -> bool:
    outer = config.optional_boolean("tie_word_embeddings")
    return fields.boolean("tie_word_embeddings", False) if outer is None else outer


def _activation(fields: TypedFields, key: str) -> Activation:
    default = "gelu_pytorch_tanh" if key == "hidden_activation" else "silu"
    activation = ACTIVATIONS.get(fields.optional_text(key) or default)
    if activation is None:
        raise fields.wrong(key, f"one of {', '.join(ACTIVATIONS)}")
    return activation


def _weights_dtype(fields: TypedFields, config: TypedFields, tensors: dict[str, MappedTensor]) -> str:
    """What config.json says, otherwise what the first tensor of floats is stored as."""
    for source in (fields, config):
        for key in ("dtype", "torch_dtype"):
            name = (source.optional_text(key) or "").removeprefix("torch.")
            if name in SAFETENSORS_DTYPES.values():
                return name
    stored = (SAFETENSORS_DTYPES.get(tensor.type_name) for tensor in tensors.values())
    return next((name for name in stored if name is not None), "float32")
