"""Attention: the attention half of a decoder layer, its heads dealt over the ranks by KV group.

Knows nothing of what surrounds it in a layer, nor of requests but through ``AttentionMetadata``. Used by ``models``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yeoul.kernels import operations
from yeoul.layers.attention_metadata import AttentionMetadata
from yeoul.layers.linear import ColumnParallelLinear, RowParallelLinear, RowsOfMatrix
from yeoul.layers.norm import RmsNorm
from yeoul.layers.parallel import TensorParallel
from yeoul.layers.rotary import RotaryTable
from yeoul.layers.weight_source import WeightSource
from yeoul.model_files.description import ModelDescription
from yeoul.model_files.tensor_parallel_split import deal_kv_groups


class Attention:
    """A norm, projections to heads, optional norms on them, rotation, the cache, attention and the output projection."""

    def __init__(
        self,
        weights: WeightSource,
        prefix: str,
        description: ModelDescription,
        layer: int,
        parallel: TensorParallel,
        norm: RmsNorm,
    ) -> None:
        """Read this rank's heads of ``prefix``'s projections, and its head norms where the model has them.

        ``norm`` is the one before the projections.
        """
        share = deal_kv_groups(description.num_heads, description.num_kv_heads, parallel.size)[parallel.rank]
        head_dim, hidden = description.head_dim, description.hidden_size
        heads = range(share.first_head * head_dim, (share.first_head + share.num_heads) * head_dim)
        kv_heads = range(share.first_kv_head * head_dim, (share.first_kv_head + share.num_kv_heads) * head_dim)
        num_rows, num_kv_rows = description.num_heads * head_dim, description.num_kv_heads * head_dim
        parts = [
            RowsOfMatrix(f"{prefix}.q_proj", num_rows, heads),
            RowsOfMatrix(f"{prefix}.k_proj", num_kv_rows, kv_heads),
            RowsOfMatrix(f"{prefix}.v_proj", num_kv_rows, kv_heads),
        ]
        self._norm = norm
        self._query_key_value = ColumnParallelLinear(weights, parts, hidden, has_bias=description.attention_bias)
        has_bias = description.attention_output_bias
        shape = (hidden, num_rows)
        self._output = RowParallelLinear.load(weights, f"{prefix}.o_proj", shape, heads, parallel, has_bias=has_bias)
        self._heads_shape = (-1, share.num_heads + 2 * share.num_kv_heads, head_dim)
        self._head_norms = _load_head_norms(weights, prefix, description)
        self._scale = description.attention_scale
        self._softcap = description.attention_logit_softcap
        slides = description.sliding_window > 0 and description.sliding_layers[layer]
        self._sliding_window = description.sliding_window if slides else 0

    def __call__(
        self, stream: Tensor, addend: Tensor | None, rotary: RotaryTable, metadata: AttentionMetadata, kv_cache: Tensor
    ) -> Tensor:
        """Adds ``addend`` to the stream in place, and computes ``[num_tokens, hidden_size]`` from it, the same on every rank.

        Writes the step's keys and values.
        """
        heads = self._query_key_value.after_norm(self._norm, stream, addend).view(self._heads_shape)
        query = operations.rotate_and_write(
            heads, rotary.cosines, rotary.sines, kv_cache, metadata.slot_mapping, self._head_norms
        )
        attended = operations.paged_attention(
            query,
            kv_cache,
            metadata.query_start,
            metadata.context_lengths,
            metadata.block_tables,
            scale=self._scale,
            sliding_window=self._sliding_window,
            softcap=self._softcap,
            batch=metadata.batch,
        )
        return self._output(attended.flatten(1))


def _load_head_norms(weights: WeightSource, prefix: str, description: ModelDescription) -> operations.HeadNorms | None:
    if not description.qk_norm:
        return None

    def weight(name: str) -> Tensor:
        stored = weights.read(f"{prefix}.{name}.weight", (description.head_dim,), dtype=torch.float32)
        return stored + description.norm_weight_offset

    return operations.HeadNorms(weight("q_norm"), weight("k_norm"), description.rms_norm_eps)
