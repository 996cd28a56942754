"""Writing a step's keys and values to the paged cache in plain torch: the truth for every other implementation.

Knows nothing of who owns which block. Called through ``kernels.operations``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def write_cache(keys: Tensor, values: Tensor, kv_cache: Tensor, slot_mapping: Tensor) -> None:
    """Put each token's key and value where ``slot_mapping`` says, in the cache's type.

    Args:
        keys: ``[num_tokens, num_kv_heads, head_dim]``.
        values: ``[num_tokens, num_kv_heads, head_dim]``.
        kv_cache: ``[2, num_blocks, num_kv_heads, block_size, head_dim]``, changed in place.
        slot_mapping: int64 ``[num_tokens]``, ``block_id * block_size + offset``, all different.
    """
    block_size = kv_cache.shape[3]
    block_ids = torch.div(slot_mapping, block_size, rounding_mode="floor")
    offsets = slot_mapping % block_size
    kv_cache[0][block_ids, :, offsets] = keys.to(kv_cache.dtype)
    kv_cache[1][block_ids, :, offsets] = values.to(kv_cache.dtype)
