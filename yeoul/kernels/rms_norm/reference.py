"""Root mean square normalisation in plain torch: the truth that every other implementation is tested against.

Knows nothing of models. Called through ``kernels.operations``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rms_norm(values: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Scale each row to a root mean square of one, then by ``weight`` (Zhang and Sennrich 2019, arXiv:1910.07467).

    Args:
        values: ``[..., size]``, any floating type; computed in float32.
        weight: float32 ``[size]``.
        epsilon: added to the mean square.

    Returns:
        ``[..., size]`` in the type of ``values``; NaN where the squares have no finite sum: zeros would hide it.
    """
    wide = values.float()
    mean_square = wide.square().mean(dim=-1, keepdim=True)
    mean_square = torch.where(mean_square.isfinite(), mean_square, torch.nan)
    return (wide * torch.rsqrt(mean_square + epsilon) * weight).to(values.dtype)


def add_and_norm(values: Tensor, addend: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Add ``addend`` to ``values`` **in place**, rounded to their type, and normalise the sum.

    Args:
        values: ``[num_rows, size]``, the residual stream; holds the sum afterwards.
        addend: of the same shape and type.
        weight: float32 ``[size]``.
        epsilon: added to the mean square.

    Returns:
        ``rms_norm(values + addend)``, in the type of ``values``.
    """
    values += addend
    return rms_norm(values, weight, epsilon)
