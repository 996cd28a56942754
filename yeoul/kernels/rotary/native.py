"""Head norms, rotation and the write to the cache as one native call, for a CPU; see ``reference.rotate_and_write``.

Called through ``kernels.operations``.
"""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from yeoul.kernels.native.calls import RotaryCall
from yeoul.kernels.native_library import NativeFunction, number_type
from yeoul.kernels.rotary.reference import HeadNorms

_rotate_and_write = NativeFunction("rotate_and_write", ctypes.c_void_p, ctypes.c_int64, *([ctypes.c_void_p] * 5))


def rotate_and_write(
    heads: Tensor,
    cosines: Tensor,
    sines: Tensor,
    kv_cache: Tensor,
    slot_mapping: Tensor,
    norms: HeadNorms | None = None,
) -> Tensor:
    """See ``reference.rotate_and_write``."""
    assert heads.is_contiguous(), "kernels take contiguous tensors"
    assert kv_cache.is_contiguous(), "kernels take contiguous tensors"
    call = _rotary_call(heads.shape, heads.dtype, kv_cache.shape, kv_cache.dtype, norms)
    _rotate_and_write(
        call.address,
        len(heads),
        heads.data_ptr(),
        cosines.data_ptr(),
        sines.data_ptr(),
        slot_mapping.data_ptr(),
        kv_cache.data_ptr(),
    )
    return heads[:, : call.num_heads]


@functools.lru_cache(maxsize=1024)
def _rotary_call(
    heads_shape: tuple[int, int, int],
    heads_dtype: torch.dtype,
    cache_shape: tuple[int, int, int, int, int],
    cache_dtype: torch.dtype,
    norms: HeadNorms | None,
) -> RotaryCall:
    _, num_all_heads, head_dim = heads_shape
    _, num_blocks, num_kv_heads, block_size, _ = cache_shape
    assert head_dim in range(2, 1025, 2), f"a head of {head_dim} numbers cannot be rotated natively"
    return RotaryCall(
        num_heads=num_all_heads - 2 * num_kv_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        num_blocks=num_blocks,
        block_size=block_size,
        heads_stride=num_all_heads * head_dim,
        query_weight=None if norms is None else norms.query_weight.data_ptr(),
        key_weight=None if norms is None else norms.key_weight.data_ptr(),
        epsilon=0.0 if norms is None else norms.epsilon,
        heads_type=number_type(heads_dtype),
        cache_type=number_type(cache_dtype),
    )
