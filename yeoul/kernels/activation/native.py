"""Gated activations natively, for a CPU; see ``reference.py``. Called through ``kernels.operations``."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from yeoul.kernels.native_library import NativeFunction, number_type

_SILU, _GELU_TANH = 0, 1  # the same as in gate.cpp
_gate = NativeFunction("gate", *(ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64), *([ctypes.c_void_p] * 2))


def silu_gate(gate_and_up: Tensor) -> Tensor:
    """See ``reference.silu_gate``."""
    return _apply(_SILU, gate_and_up)


def gelu_tanh_gate(gate_and_up: Tensor) -> Tensor:
    """See ``reference.gelu_tanh_gate``."""
    return _apply(_GELU_TANH, gate_and_up)


def _apply(kind: int, gate_and_up: Tensor) -> Tensor:
    gate_and_up = gate_and_up.contiguous()
    num_rows, width = gate_and_up.shape
    output = torch.empty(num_rows, width // 2, dtype=gate_and_up.dtype)
    _gate(kind, number_type(gate_and_up.dtype), num_rows, width // 2, gate_and_up.data_ptr(), output.data_ptr())
    return output
