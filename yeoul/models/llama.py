"""The Llama family: Llama, SmolLM2, Mistral, Qwen2 and Qwen3, which differ in biases, head norms and windows only.

Structure and weight names; knows nothing of serving, files or sharding. Called through ``models.registry``.
Source: Touvron et al. 2023 (arXiv:2302.13971), Jiang et al. 2023 (arXiv:2310.06825), Yang et al. 2024 (arXiv:2407.10671)
and 2025 (arXiv:2505.09388).
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


class LlamaLayer:
    """Norm, attention, add; norm, MLP, add."""

    def __init__(self, weights: WeightSource, description: ModelDescription, layer: int, parallel: TensorParallel) -> None:
        prefix = f"model.layers.{layer}"
        size, epsilon = description.hidden_size, description.rms_norm_eps
        norm = RmsNorm(weights, f"{prefix}.input_layernorm", size, epsilon=epsilon)
        self._attention = Attention(weights, f"{prefix}.self_attn", description, layer, parallel, norm)
        norm = RmsNorm(weights, f"{prefix}.post_attention_layernorm", size, epsilon=epsilon)
        self._mlp = GatedMlp(weights, f"{prefix}.mlp", description, parallel, norm)

    def __call__(
        self, stream: Tensor, addend: Tensor | None, rotary: RotaryTable, metadata: AttentionMetadata, kv_cache: Tensor
    ) -> Tensor:
        """See ``DecoderLayer``."""
        attended = self._attention(stream, addend, rotary, metadata, kv_cache)
        return self._mlp(stream, attended)
