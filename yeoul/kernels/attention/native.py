"""Paged attention natively, for a CPU; see ``reference.py`` for what it computes. Called through ``kernels.operations``.

The shape of a step is the same for all its layers, so it is told once, in a structure that all layers point to.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yeoul.kernels.native.cache_layout import strides_of
from yeoul.kernels.native.calls import AttentionCall, BatchCall
from yeoul.kernels.native_library import address, number_type
from yeoul.kernels.native_operations import NativeOperation, new_tensor

_paged_attention = NativeOperation("paged_attention")


def paged_attention(
    query: Tensor,
    kv_cache: Tensor,
    query_start: Tensor,
    context_lengths: Tensor,
    block_tables: Tensor,
    *,
    scale: float,
    sliding_window: int = 0,
    softcap: float | None = None,
    batch: BatchCall | None = None,
) -> Tensor:
    """See ``reference.paged_attention``. A token's heads must be contiguous; from token to token there may be gaps.

    ``batch`` is the three tensors in one structure, for all calls of a step; None makes one for this call.
    """
    num_tokens, num_heads, head_dim = query.shape
    num_kv_heads, block_size, key_size = kv_cache.shape[2:]
    part_stride, block_stride = strides_of(kv_cache)
    assert query.stride()[1:] == (head_dim, 1), "the heads of a token must be contiguous"
    assert key_size == head_dim, f"heads of {head_dim} numbers cannot meet keys of {key_size}"
    output = new_tensor(tuple(query.shape), query.dtype)
    if batch is None:
        batch = BatchCall()
        fill_batch_call(batch, query_start, context_lengths, block_tables)
    _paged_attention(
        AttentionCall(
            num_rows=num_tokens,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            part_stride=part_stride,
            block_stride=block_stride,
            block_size=block_size,
            query_stride=query.stride(0),
            output_stride=num_heads * head_dim,
            sliding_window=sliding_window,
            batch=batch.address,
            query=query.data_ptr(),
            cache=kv_cache.data_ptr(),
            output=address(output),
            scale=scale,
            softcap=softcap or 0.0,
            query_type=number_type(query.dtype),
            cache_type=number_type(kv_cache.dtype),
        ),
        batch,
    )
    return output


def fill_batch_call(call: BatchCall, query_start: Tensor, context_lengths: Tensor, block_tables: Tensor) -> None:
    """Makes the structure that of another step, for all who point to it; the tensors must live as long as it is used."""
    for tensor in (query_start, context_lengths, block_tables):
        assert tensor.dtype == torch.int32, "a step's shape is int32"
        assert tensor.stride(-1) == 1, "a step's shape is contiguous"
    call.query_start = query_start.data_ptr()
    call.context_lengths = context_lengths.data_ptr()
    call.block_tables = block_tables.data_ptr()
    call.table_stride = block_tables.stride(0)
    call.num_requests = len(context_lengths)
