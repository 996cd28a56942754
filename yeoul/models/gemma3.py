"""Gemma 3 (text): norms before and after each half, head norms, scaled embeddings, sliding layers with a base of their own.

Structure and weight names; knows nothing of serving, files or sharding. Called through ``models.registry``.
Source: Gemma Team 2025 (arXiv:2503.19786).
"""

from __future__ import annotations

from torch import Tensor

from yeoul.layers.attention import Attention
from yeoul.layers.attention_metadata import AttentionMetadata
from yeoul.layers.mlp import GatedMlp
from yeoul.layers.norm import RmsNorm
from yeoul.layers.parallel import TensorParallel
from yeoul.layers.rotary import RotaryTable
from yeoul.layers.weight_source import WeightSource
from yeoul.model_files.description import ModelDescription


class Gemma3Layer:
    """Norm, attention, norm, add; norm, MLP, norm, add."""

    def __init__(self, weights: WeightSource, description: ModelDescription, layer: int, parallel: TensorParallel) -> None:
        prefix = f"model.layers.{layer}"

        def norm(name: str) -> RmsNorm:
            size, epsilon, offset = description.hidden_size, description.rms_norm_eps, description.norm_weight_offset
            return RmsNorm(weights, f"{prefix}.{name}", size, epsilon=epsilon, offset=offset)

        before_attention, before_mlp = norm("input_layernorm"), norm("pre_feedforward_layernorm")
        self._attention = Attention(weights, f"{prefix}.self_attn", description, layer, parallel, before_attention)
        self._after_attention = norm("post_attention_layernorm")
        self._mlp = GatedMlp(weights, f"{prefix}.mlp", description, parallel, before_mlp)
        self._after_mlp = norm("post_feedforward_layernorm")

    def __call__(
        self, stream: Tensor, addend: Tensor | None, rotary: RotaryTable, metadata: AttentionMetadata, kv_cache: Tensor
    ) -> Tensor:
        """See ``DecoderLayer``."""
        attended = self._attention(stream, addend, rotary, metadata, kv_cache)
        computed = self._mlp(stream, self._after_attention(attended))
        return self._after_mlp(computed)
