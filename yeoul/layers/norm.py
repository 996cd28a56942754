"""RmsNorm: the normalisation layer; knows nothing of where it stands in a model. Used by ``layers`` and ``models``."""

from __future__ import annotations

import torch
from torch import Tensor

from yeoul.kernels import operations
from yeoul.layers.weight_source import WeightSource


class RmsNorm:
    """Root mean square normalisation over the last dimension; the weight stays float32 in every model type."""

    def __init__(self, weights: WeightSource, name: str, size: int, *, epsilon: float, offset: float = 0.0) -> None:
        """Read the weight ``name`` (without ``.weight``); ``offset`` is 1.0 where the file stores it less one."""
        self.weight = weights.read(f"{name}.weight", (size,), dtype=torch.float32) + offset
        self.epsilon = epsilon

    def __call__(self, values: Tensor, addend: Tensor | None = None) -> Tensor:
        """``[..., size]`` to the same shape and type; ``addend``, if there is one, is first added to it, **in place**."""
        return operations.rms_norm(values, self.weight, self.epsilon, addend)
