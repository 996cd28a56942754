"""Which KV caches the native operations read and write; how their numbers lie is described in ``cache_layout.h``.

Knows nothing of who writes or reads the cache. Used by the operations' ``native.py`` files, and by the model runner before
it makes a cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yeoul.errors import ConfigError

GROUP_KEYS = 16


def is_paired(kv_cache: Tensor) -> bool:
    """Whether a cache is the native operations': its numbers lie in pairs, and the references cannot read it."""
    return kv_cache.is_cpu and kv_cache.dtype != torch.float32


def check_cache_shape(block_size: int, head_dim: int, dtype: torch.dtype) -> None:
    """Raises ConfigError where a CPU cannot have such a cache: one of 16-bit numbers consists of groups of 16 keys."""
    if dtype == torch.float32:
        return
    if block_size % GROUP_KEYS != 0:
        raise ConfigError(
            f"--block-size is {block_size}; expected a multiple of {GROUP_KEYS} for a KV cache of {dtype} on a CPU (or set "
            "--kv-cache-dtype float32)",
            param="block_size",
        )
    if head_dim % 2 != 0 or head_dim > 1024:
        raise ConfigError(
            f"the model has heads of {head_dim} numbers; a KV cache of {dtype} on a CPU expects an even number up to 1,024; "
            "set --kv-cache-dtype float32"
        )


def strides_of(kv_cache: Tensor) -> tuple[int, int]:
    """How many numbers lie from a block's keys to its values, and from a block to the next; the rest is contiguous."""
    part_stride, block_stride, *inner = kv_cache.stride()
    block_size, head_dim = kv_cache.shape[3:]
    assert inner == [block_size * head_dim, head_dim, 1], "the heads of a block must be contiguous"
    assert kv_cache.dtype != torch.float32, "the native operations read numbers of 16 bits"
    assert block_size % GROUP_KEYS == 0, f"a block of {block_size} tokens is not whole groups of {GROUP_KEYS}"
    assert head_dim in range(2, 1025, 2), f"a head of {head_dim} numbers does not lie in pairs"
    return part_stride, block_stride
