"""What ranks do with each other's rows, in plain torch: sums in rank order; see ``layers.parallel``."""

from __future__ import annotations

from torch import Tensor


def sum_parts(parts: list[Tensor]) -> Tensor:
    """Adds tensors of one shape and type in their order, in float32, and rounds once: the same bits wherever it is done."""
    total = parts[0].float()
    for part in parts[1:]:
        total = total + part.float()
    return total.to(parts[0].dtype)
