"""Paged attention natively, for a CPU; see ``reference.py`` for what it computes. Called through ``kernels.operations``.

What does not change from layer to layer is looked up, not made again: the shapes of a layer, the addresses of a step.
"""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from yeoul.kernels.native.calls import AttentionCall, BatchCall
from yeoul.kernels.native_library import NativeFunction, number_type

_paged_attention = NativeFunction("paged_attention", *([ctypes.c_void_p] * 5))


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
) -> Tensor:
    """See ``reference.paged_attention``. A token's heads must be contiguous; from token to token there may be gaps."""
    output = torch.empty(query.shape, dtype=query.dtype)
    call = _attention_call(
        query.shape, query.stride(), query.dtype, kv_cache.shape, kv_cache.dtype, scale, sliding_window, softcap
    )
    assert kv_cache.is_contiguous(), "kernels take contiguous tensors"
    batch = _batch_call(query_start, context_lengths, block_tables)
    _paged_attention(call.address, batch.address, query.data_ptr(), kv_cache.data_ptr(), output.data_ptr())
    return output


@functools.lru_cache(maxsize=256)
def _attention_call(
    query_shape: tuple[int, int, int],
    query_stride: tuple[int, int, int],
    query_dtype: torch.dtype,
    cache_shape: tuple[int, int, int, int, int],
    cache_dtype: torch.dtype,
    scale: float,
    sliding_window: int,
    softcap: float | None,
) -> AttentionCall:
    _, num_heads, head_dim = query_shape
    _, num_blocks, num_kv_heads, block_size, _ = cache_shape
    assert query_stride[1:] == (head_dim, 1), "the heads of a token must be contiguous"
    assert cache_shape[4] == head_dim, f"heads of {head_dim} numbers cannot meet keys of {cache_shape[4]}"
    return AttentionCall(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        num_blocks=num_blocks,
        block_size=block_size,
        query_stride=query_stride[0],
        output_stride=num_heads * head_dim,
        sliding_window=sliding_window,
        scale=scale,
        softcap=softcap or 0.0,
        query_type=number_type(query_dtype),
        cache_type=number_type(cache_dtype),
    )


_last_batch: tuple[Tensor, Tensor, Tensor, BatchCall] | None = None


def _batch_call(query_start: Tensor, context_lengths: Tensor, block_tables: Tensor) -> BatchCall:
    """The addresses of a step's tensors: every layer of a step brings the same ones, which the last answer keeps alive."""
    global _last_batch
    last = _last_batch
    if last is not None and last[0] is query_start and last[1] is context_lengths and last[2] is block_tables:
        return last[3]
    for tensor in (query_start, context_lengths, block_tables):
        assert tensor.dtype == torch.int32, "a step's shape is int32"
        assert tensor.stride(-1) == 1, "a step's shape is contiguous"
    call = BatchCall(
        query_start=query_start.data_ptr(),
        context_lengths=context_lengths.data_ptr(),
        block_tables=block_tables.data_ptr(),
        table_stride=block_tables.stride(0),
        num_requests=len(context_lengths),
    )
    _last_batch = (query_start, context_lengths, block_tables, call)
    return call
