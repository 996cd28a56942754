"""Quantising rows natively; see ``reference.py``. The quantised linear does the same inside its own call."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from yeoul.kernels.native_library import NativeFunction, address, number_type
from yeoul.kernels.quantize_rows.reference import BLOCK_SIZE, QuantizedRows

_quantize_rows = NativeFunction(
    "quantize_rows", ctypes.c_int, *([ctypes.c_void_p] + [ctypes.c_int64] * 2 + [ctypes.c_void_p] * 3)
)


def quantize_rows(rows: Tensor) -> QuantizedRows:
    """See ``reference.quantize_rows``."""
    num_rows, size = rows.shape
    num_blocks = -(-size // BLOCK_SIZE)
    rows = rows.contiguous()
    codes = torch.empty(num_rows, num_blocks * BLOCK_SIZE, dtype=torch.int8)
    scales = torch.empty(num_rows, num_blocks)
    sums = torch.empty(num_rows, num_blocks, dtype=torch.int32)
    _quantize_rows(number_type(rows.dtype), address(rows), num_rows, size, address(codes), address(scales), address(sums))
    return QuantizedRows(codes, scales, sums)
