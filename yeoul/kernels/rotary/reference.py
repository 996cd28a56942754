"""Rotary position embedding in plain torch: the truth that every other implementation is tested against.

Knows nothing of where the frequencies come from (``layers.rotary``). Called through ``kernels.operations``.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
