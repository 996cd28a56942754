"""Root mean square normalisation in plain torch: the truth that every other implementation is tested against.

Knows nothing of models. Called through ``kernels.operations``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rms_norm(values: Tensor, weight: Tensor, epsilon: float, addend: Tensor | None = None) -> Tensor:
    """Scale each row to a root mean square of one, then by ``weight`` (Zhang and Sennrich 2019, arXiv:1910.07467).

    Args:
        values: ``[..., size]``, any floating type; computed in float32.
        weight: float32 ``[size]``.
        epsilon: added to the mean square.
        addend: None, or what is added to ``values`` first, **in place**, rounded to their type; of the same shape and type.

    Returns:
        ``[..., size]`` in the type of ``values``; NaN where the squares have no finite sum: zeros would hide it.
    """
    if addend is not None:
        values += addend
    wide = values.float()
    mean_square = wide.square().mean(dim=-1, keepdim=True)
    mean_square = torch.where(mean_square.isfinite(), mean_square, torch.nan)
    return (wide * torch.rsqrt(mean_square + epsilon) * weight).to(values.dtype)
