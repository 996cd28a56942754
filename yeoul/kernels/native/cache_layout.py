"""How the native operations lay a block of the KV cache out; the same as ``cache_layout.h``, which describes it.

Knows nothing of who writes or reads the cache. Used by the operations' ``native.py`` files.
"""

from __future__ import annotations

import torch
from torch import Tensor

GROUP_KEYS = 16


def is_paired(kv_cache: Tensor) -> bool:
    """Whether a cache ``[2, num_blocks, num_kv_heads, block_size, head_dim]`` is paired."""
    block_size, head_dim = kv_cache.shape[3:]
    return kv_cache.dtype == torch.bfloat16 and block_size % GROUP_KEYS == 0 and head_dim % 2 == 0


def strides_of(kv_cache: Tensor) -> tuple[int, int]:
    """How many numbers lie from a block's keys to its values, and from a block to the next; the rest is contiguous."""
    part_stride, block_stride, *inner = kv_cache.stride()
    block_size, head_dim = kv_cache.shape[3:]
    assert inner == [block_size * head_dim, head_dim, 1], "the heads of a block must be contiguous"
    return part_stride, block_stride
