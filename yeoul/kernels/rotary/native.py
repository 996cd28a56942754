"""Head norms, rotation and the write to the cache as one native call, for a CPU; see ``reference.rotate_and_write``.

Called through ``kernels.operations``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yeoul.kernels.native.cache_layout import strides_of
from yeoul.kernels.native.calls import RotaryCall
from yeoul.kernels.native_library import address, number_type
from yeoul.kernels.native_operations import NativeOperation
from yeoul.kernels.rotary.reference import HeadNorms

_rotate_and_write = NativeOperation("rotate_and_write")


def rotate_and_write(
    heads: Tensor,
    cosines: Tensor,
    sines: Tensor,
    kv_cache: Tensor,
    slot_mapping: Tensor,
    norms: HeadNorms | None = None,
) -> Tensor:
    """See ``reference.rotate_and_write``."""
    num_tokens, num_all_heads, head_dim = heads.shape
    num_kv_heads, block_size = kv_cache.shape[2:4]
    part_stride, block_stride = strides_of(kv_cache)
    num_heads = num_all_heads - 2 * num_kv_heads
    assert cosines.dtype == sines.dtype == torch.float32
    assert slot_mapping.dtype == torch.int64
    _rotate_and_write(
        RotaryCall(
            num_rows=num_tokens,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            part_stride=part_stride,
            block_stride=block_stride,
            block_size=block_size,
            heads_stride=num_all_heads * head_dim,
            query_weight=None if norms is None else address(norms.query_weight),
            key_weight=None if norms is None else address(norms.key_weight),
            heads=address(heads),
            cosines=address(cosines),
            sines=address(sines),
            slots=address(slot_mapping),
            cache=kv_cache.data_ptr(),
            epsilon=0.0 if norms is None else norms.epsilon,
            heads_type=number_type(heads.dtype),
            cache_type=number_type(kv_cache.dtype),
        )
    )
    return heads[:, :num_heads]
