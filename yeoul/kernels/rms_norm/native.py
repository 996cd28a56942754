"""Root mean square normalisation natively, for a CPU; see ``reference.py``. Called through ``kernels.operations``."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from yeoul.kernels.native_library import NativeFunction, address, number_type

_rms_norm = NativeFunction(
    "rms_norm",
    *(ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_float),
    *([ctypes.c_void_p] * 5),
)


def rms_norm(values: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """See ``reference.rms_norm``."""
    values = values.contiguous()
    output = torch.empty_like(values)
    size = values.shape[-1]
    num_rows = values.numel() // size
    arguments = (address(weight), values.data_ptr(), None, None, output.data_ptr())
    _rms_norm(number_type(values.dtype), num_rows, size, epsilon, *arguments)
    return output


def add_and_norm(values: Tensor, addend: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Adds ``addend`` to ``values``, in place, and normalises the sum. See ``reference.add_and_norm``."""
    output = torch.empty_like(values)
    size = values.shape[-1]
    num_rows = values.numel() // size
    arguments = (address(weight), address(values), address(addend.contiguous()), values.data_ptr(), output.data_ptr())
    _rms_norm(number_type(values.dtype), num_rows, size, epsilon, *arguments)
    return output
