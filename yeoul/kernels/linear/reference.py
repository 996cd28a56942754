"""Matrix multiplication with weights in plain torch: the truth that every other implementation is tested against.

Knows nothing of sharding. Called through ``kernels.operations``.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROW_MULTIPLE = 4


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """``rows @ weight.T + bias``; on a CPU each row has the same bits whatever the rows beside it.

    A BLAS picks another kernel, with another order of summation, for fewer than four rows a thread; on the CPU the
    number of rows is therefore filled up to a multiple of four. On a GPU nothing of this kind is done yet.

    Args:
        rows: ``[num_rows, in_size]``.
        weight: ``[out_size, in_size]`` of the same type.
        bias: ``[out_size]`` of the same type.
        dtype: the result's; None is that of ``rows``. Sums are never rounded to less on the way to it.

    Returns:
        ``[num_rows, out_size]`` of ``dtype``.
    """
    dtype = dtype or rows.dtype
    if rows.is_cuda and dtype == torch.float32 != rows.dtype:
        product = torch.mm(rows, weight.T, out_dtype=dtype)
        return product if bias is None else product + bias
    num_rows = rows.shape[0]
    padding = -num_rows % ROW_MULTIPLE
    if padding and rows.device.type == "cpu":
        rows = torch.nn.functional.pad(rows, (0, 0, 0, padding))
    return torch.nn.functional.linear(rows, weight, bias)[:num_rows].to(dtype)
