"""Rotary position embedding in plain torch: the truth that every other implementation is tested against.

Knows nothing of where the frequencies come from (``layers.rotary``). Called through ``kernels.operations``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from yeoul.kernels.cache_write.reference import write_cache
from yeoul.kernels.rms_norm.reference import rms_norm


@dataclass(frozen=True, eq=False)
class HeadNorms:
    """The norms of a model that normalises its heads: float32 ``[head_dim]`` each."""

    query_weight: Tensor
    key_weight: Tensor
    epsilon: float


def apply_rotary(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate each pair (i, i + head_dim / 2) of a head by its position's angle (Su et al. 2021, arXiv:2104.09864).

    Args:
        heads: ``[num_tokens, num_heads, head_dim]``, any floating type; computed in float32.
        cosines: float32 ``[num_tokens, head_dim / 2]``.
        sines: float32 ``[num_tokens, head_dim / 2]``.

    Returns:
        The rotated heads, of the same shape and type.
    """
    first, second = heads.float().chunk(2, dim=-1)
    cosines, sines = cosines.unsqueeze(1), sines.unsqueeze(1)
    rotated = torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1)
    return rotated.to(heads.dtype)


def rotate_and_write(
    heads: Tensor,
    cosines: Tensor,
    sines: Tensor,
    kv_cache: Tensor,
    slot_mapping: Tensor,
    norms: HeadNorms | None = None,
) -> Tensor:
    """Normalise and rotate a layer's queries and keys, and write its keys and values to the cache.

    Args:
        heads: ``[num_tokens, num_heads + 2 * num_kv_heads, head_dim]``: queries, keys, values; may be overwritten.
        cosines: float32 ``[num_tokens, head_dim / 2]``.
        sines: float32 ``[num_tokens, head_dim / 2]``.
        kv_cache: ``[2, num_blocks, num_kv_heads, block_size, head_dim]``, changed in place.
        slot_mapping: int64 ``[num_tokens]``; see ``cache_write``.
        norms: None where the model does not normalise its heads.

    Returns:
        The queries, ``[num_tokens, num_heads, head_dim]``, in the type of ``heads``.
    """
    num_kv_heads = kv_cache.shape[2]
    query, key, value = heads.split_with_sizes([heads.shape[1] - 2 * num_kv_heads, num_kv_heads, num_kv_heads], dim=1)
    if norms is not None:
        query = rms_norm(query, norms.query_weight, norms.epsilon)
        key = rms_norm(key, norms.key_weight, norms.epsilon)
    write_cache(apply_rotary(key, cosines, sines), value, kv_cache, slot_mapping)
    return apply_rotary(query, cosines, sines)
