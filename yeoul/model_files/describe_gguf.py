"""A ModelDescription from a GGUF file's metadata and tensor table; knows nothing of torch. describe.py calls it.

Source of the field names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and llama.cpp's gguf-py constants.
"""

from __future__ import annotations

import math

from yeoul.errors import ModelFileError
from yeoul.model_files.architectures import GGUF_ARCHITECTURES, check_shape, stretched_context
from yeoul.model_files.description import Architecture, ModelDescription, RopeScaling
from yeoul.model_files.gguf import GgufFile
from yeoul.model_files.gguf_types import COMPUTABLE_TYPES
from yeoul.model_files.typed_fields import TypedFields

GEMMA3_LOCAL_THETA = 10000.0
GEMMA3_SLIDING_PATTERN = 6
GEMMA3_27B_NUM_LAYERS = 62


def describe_gguf(path: str) -> ModelDescription:
    """Reads the header. Llama 3's rope scaling is no metadata in GGUF: it lies in the tensor ``rope_freqs.weight``
    (float32 [head_dim / 2], divisors of the inverse frequencies), which the loader must apply where it is there.
    """
    file = GgufFile.open(path)
    name = TypedFields(path, file.metadata).optional_text("general.architecture")
    architecture = GGUF_ARCHITECTURES.get(name or "")
    if name is None or architecture is None:
        raise ModelFileError(
            f"{path} is of the unknown architecture {name!r}; this version knows {', '.join(GGUF_ARCHITECTURES)}"
        )
    for tensor in file.tensors.values():
        if tensor.type_name not in COMPUTABLE_TYPES:
            raise ModelFileError(
                f"{path}: tensor {tensor.name!r} is of type {tensor.type_name}, which this version cannot compute with; "
                f"use a file of {', '.join(COMPUTABLE_TYPES)}"
            )
    return check_shape(path, _describe(file, architecture, TypedFields(path, file.metadata, prefix=f"{name}.")))


def _describe(file: GgufFile, architecture: Architecture, fields: TypedFields) -> ModelDescription:
    if fields.get("expert_count"):
        raise ModelFileError(f"{file.path} is a mixture of experts, which this version does not know; use a dense model")
    if not fields.boolean("attention.causal", True):
        raise ModelFileError(f"{file.path}: its attention looks ahead too; expected a decoder that looks back only")
    for key in ("attention.clamp_kqv", "attention.max_alibi_bias"):
        if fields.number(key, 0.0):
            raise fields.wrong(key, "0 (it is not computed here)")
    gemma = architecture == "gemma3"
    num_layers = fields.size("block_count")
    hidden_size = fields.size("embedding_length")
    num_heads = _same_in_all_layers(fields, "attention.head_count")
    head_dim = _head_dim(fields, hidden_size, num_heads)
    sliding_window = _sliding_window(fields)
    rope_scaling = _rope_scaling(fields)
    return ModelDescription(
        architecture=architecture,
        file_format="gguf",
        num_layers=num_layers,
        hidden_size=hidden_size,
        intermediate_size=_same_in_all_layers(fields, "feed_forward_length"),
        num_heads=num_heads,
        num_kv_heads=_same_in_all_layers(fields, "attention.head_count_kv", num_heads),
        head_dim=head_dim,
        vocab_size=_vocab_size(file, hidden_size),
        max_position_embeddings=stretched_context(fields.size("context_length"), rope_scaling),
        rms_norm_eps=fields.positive("attention.layer_norm_rms_epsilon"),
        attention_scale=_attention_scale(fields, gemma, num_layers, hidden_size // num_heads, head_dim),
        rope_theta=fields.positive("rope.freq_base", 1_000_000.0 if gemma else 10_000.0),
        rope_scaling=rope_scaling,
        rope_local_theta=fields.positive("rope.freq_base_swa", GEMMA3_LOCAL_THETA) if gemma else None,
        sliding_window=sliding_window,
        sliding_layers=_sliding_layers(fields, gemma, num_layers) if sliding_window else [],
        tie_word_embeddings="output.weight" not in file.tensors,
        attention_bias="blk.0.attn_q.bias" in file.tensors,
        attention_output_bias="blk.0.attn_output.bias" in file.tensors,
        mlp_bias="blk.0.ffn_gate.bias" in file.tensors,
        qk_norm="blk.0.attn_q_norm.weight" in file.tensors,
        post_norms=gemma,
        activation="gelu_tanh" if gemma else "silu",
        embedding_scale=math.sqrt(hidden_size) if gemma else 1.0,
        final_logit_softcap=fields.optional_number("final_logit_softcapping"),
        attention_logit_softcap=fields.optional_number("attn_logit_softcapping"),
        weights_dtype=_weights_dtype(file),
    )


def _same_in_all_layers(fields: TypedFields, key: str, default: int | None = None) -> int:
    """A size that newer files may give as one number a layer; layers that differ are another architecture."""
    value = fields.get(key)
    if isinstance(value, list):
        if not value or len(set(value)) != 1:
            raise fields.wrong(key, "the same number for every layer")
        return TypedFields(fields.origin, {fields.prefix + key: value[0]}, fields.prefix).size(key)
    return fields.size(key, default)


def _head_dim(fields: TypedFields, hidden_size: int, num_heads: int) -> int:
    head_dim = fields.size("attention.key_length", max(1, hidden_size // num_heads))
    for key in ("attention.value_length", "rope.dimension_count"):
        if fields.size(key, head_dim) != head_dim:
            raise fields.wrong(key, f"the size of a key head, {head_dim} (other sizes are not supported)")
    return head_dim


def _vocab_size(file: GgufFile, hidden_size: int) -> int:
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelFileError(f"{file.path} has no tensor 'token_embd.weight'; is it a whole language model?")
    if len(embedding.shape) != 2 or embedding.shape[1] != hidden_size:
        raise ModelFileError(
            f"{file.path}: expected the shape (vocabulary, {hidden_size}) for 'token_embd.weight', found {embedding.shape}"
        )
    return embedding.shape[0]


def _attention_scale(fields: TypedFields, gemma: bool, num_layers: int, hidden_per_head: int, head_dim: int) -> float:
    default = head_dim**-0.5
    if gemma and num_layers == GEMMA3_27B_NUM_LAYERS:
        default = hidden_per_head**-0.5  # query_pre_attn_scalar of the 27B model is 168, and GGUF has no field for it
    return fields.positive("attention.scale", default)


def _sliding_window(fields: TypedFields) -> int:
    return fields.size("attention.sliding_window") if fields.get("attention.sliding_window") else 0


def _sliding_layers(fields: TypedFields, gemma: bool, num_layers: int) -> list[bool]:
    """Every n-th layer sees everything: n is the file's, or 6 for Gemma 3; other architectures slide in all layers."""
    if isinstance(fields.get("attention.sliding_window_pattern"), list):
        return fields.items("attention.sliding_window_pattern", bool) or []
    if not gemma and fields.get("attention.sliding_window_pattern") is None:
        return [True] * num_layers
    pattern = fields.size("attention.sliding_window_pattern", GEMMA3_SLIDING_PATTERN)
    return [(layer + 1) % pattern != 0 for layer in range(num_layers)]


def _rope_scaling(fields: TypedFields) -> RopeScaling:
    kind = fields.optional_text("rope.scaling.type")
    linear_factor = fields.optional_number("rope.scale_linear")
    if kind is None and linear_factor is not None:
        return RopeScaling(kind="linear", factor=linear_factor)
    if kind in (None, "none"):
        return RopeScaling()
    factor = fields.positive("rope.scaling.factor", 1.0)
    if kind == "linear":
        return RopeScaling(kind="linear", factor=factor)
    if kind != "yarn":
        raise fields.wrong("rope.scaling.type", "none, linear or yarn")
    attention_factor = fields.positive("rope.scaling.attn_factor", 1.0) * (1.0 + 0.1 * math.log(max(factor, 1.0)))
    return RopeScaling(
        kind="yarn",
        factor=factor,
        original_max_position_embeddings=fields.size("rope.scaling.original_context_length", fields.size("context_length")),
        attention_factor=attention_factor,
        beta_fast=fields.positive("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=fields.positive("rope.scaling.yarn_beta_slow", 1.0),
    )


def _weights_dtype(file: GgufFile) -> str:
    """float32 or float16 for a file of nothing else (norms aside), bfloat16 for all others, quantised ones too."""
    matrices = {tensor.type_name for tensor in file.tensors.values() if len(tensor.shape) > 1}
    if matrices == {"F32"}:
        return "float32"
    return "float16" if matrices <= {"F16", "F32"} and matrices else "bfloat16"
