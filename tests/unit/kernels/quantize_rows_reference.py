"""Rows to 8-bit integers with a scale for each 32 consecutive numbers, in plain torch: what products make of theirs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_SIZE = 32


class QuantizedRows(NamedTuple):
    """``codes`` int8 ``[num_rows, size]`` (size filled up to blocks of 32), ``scales`` float32 and ``sums`` int32 of the
    codes, both ``[num_rows, size / 32]``."""

    codes: Tensor
    scales: Tensor
    sums: Tensor


def quantize_rows(rows: Tensor) -> QuantizedRows:
    """Quantise each block symmetrically: the number of the largest magnitude becomes 127 or -127.

    The scale of a block with a NaN or an infinity is NaN, so that it shows in all that is multiplied with it.

    Args:
        rows: floating ``[num_rows, size]``.
    """
    filled = torch.nn.functional.pad(rows.float(), (0, -rows.shape[1] % BLOCK_SIZE))
    blocks = filled.view(len(rows), -1, BLOCK_SIZE)
    largest = blocks.abs().amax(dim=2, keepdim=True)
    # A number over a tensor would be that number times the reciprocals, rounded twice.
    inverse = torch.where(largest > 0, torch.full_like(largest, 127.0) / largest, 0.0)
    is_finite = largest.isfinite()
    codes = torch.where(is_finite, (blocks * inverse).round(), 0.0)
    scales = torch.where(is_finite, largest / torch.full_like(largest, 127.0), torch.nan).squeeze(2)
    return QuantizedRows(codes.to(torch.int8).flatten(1), scales, codes.sum(dim=2).to(torch.int32))
