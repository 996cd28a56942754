"""ModelDescription: the shape of a decoder as its file tells it; the same struct from GGUF and from config.json.

Knows nothing of torch. The web process reads it for limits, the workers build the model from it.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

Architecture = Literal["llama", "mistral", "qwen2", "qwen3", "gemma3", "fake"]
FileFormat = Literal["gguf", "safetensors", "fake"]
RopeScalingKind = Literal["none", "linear", "llama3", "yarn"]


class ModelFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model lies on this disk. ``path`` is the GGUF file, or the Hugging Face folder, or empty for ``fake``.

    ``name`` is what the user typed or the default model's name; the served name unless a flag sets another.
    """

    name: str
    file_format: FileFormat
    path: str


class RopeScaling(msgspec.Struct, frozen=True, kw_only=True):
    """Rotary embedding scaling; the fields that a kind does not use keep their defaults."""

    kind: RopeScalingKind = "none"
    factor: float = 1.0
    original_max_position_embeddings: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True


class ModelDescription(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the computation needs to know.

    ``sliding_window`` 0 means full attention everywhere; otherwise ``sliding_layers[i]`` says whether layer i slides,
    and sees positions p - sliding_window < q <= p. ``rope_local_theta`` is the base of sliding layers where it differs
    (Gemma 3, unscaled there). ``norm_weight_offset`` is 1.0 where the file stores weight - 1 (Gemma in safetensors);
    GGUF files store the sum already. ``attention_scale`` multiplies q·k, ``embedding_scale`` token embeddings.
    """

    architecture: Architecture
    file_format: FileFormat
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    attention_scale: float
    rope_theta: float
    rope_scaling: RopeScaling = RopeScaling()
    rope_local_theta: float | None = None
    sliding_window: int = 0
    sliding_layers: list[bool] = []
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    attention_output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    post_norms: bool = False
    norm_weight_offset: float = 0.0
    activation: Literal["silu", "gelu_tanh"] = "silu"
    embedding_scale: float = 1.0
    final_logit_softcap: float | None = None
    attention_logit_softcap: float | None = None
    weights_dtype: str = "bfloat16"


def shape_digest(description: ModelDescription) -> str:
    """A name for everything in a description: two processes with different ones do not serve the same model."""
    return hashlib.sha256(msgspec.msgpack.encode(description)).hexdigest()[:16]
