"""A KV cache as the native operations lay it out, made from a plain one and back; what ``cache_layout.h`` describes."""

from __future__ import annotations

import torch
from torch import Tensor

from yeoul.kernels.native.cache_layout import GROUP_KEYS


def laid_out(kv_cache: Tensor) -> Tensor:
    """A cache whose blocks are ``[block_size, head_dim]``, as the native operations would have written it."""
    *outer, block_size, head_dim = kv_cache.shape[1:]
    keys = kv_cache[0].reshape(*outer, block_size // GROUP_KEYS, GROUP_KEYS, head_dim // 2, 2).transpose(-3, -2)
    values = kv_cache[1].reshape(*outer, block_size // 2, 2, head_dim).transpose(-2, -1)
    return torch.stack((keys.reshape(kv_cache.shape[1:]), values.reshape(kv_cache.shape[1:])))


def plain(kv_cache: Tensor) -> Tensor:
    """The inverse of ``laid_out``."""
    *outer, block_size, head_dim = kv_cache.shape[1:]
    keys = kv_cache[0].reshape(*outer, block_size // GROUP_KEYS, head_dim // 2, GROUP_KEYS, 2).transpose(-3, -2)
    values = kv_cache[1].reshape(*outer, block_size // 2, head_dim, 2).transpose(-2, -1)
    return torch.stack((keys.reshape(kv_cache.shape[1:]), values.reshape(kv_cache.shape[1:])))
