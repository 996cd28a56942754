"""Gated activations natively, for a CPU; see ``reference.py``. Called through ``kernels.operations``."""

from __future__ import annotations

from torch import Tensor

from yeoul.kernels.native.calls import GateCall
from yeoul.kernels.native_library import address, number_type
from yeoul.kernels.native_operations import NativeOperation, new_tensor

_SILU, _GELU_TANH = 0, 1  # the same as in gate.cpp
_gate = NativeOperation("gate")


def silu_gate(gate_and_up: Tensor) -> Tensor:
    """See ``reference.silu_gate``."""
    return _apply(_SILU, gate_and_up)


def gelu_tanh_gate(gate_and_up: Tensor) -> Tensor:
    """See ``reference.gelu_tanh_gate``."""
    return _apply(_GELU_TANH, gate_and_up)


def _apply(kind: int, gate_and_up: Tensor) -> Tensor:
    gate_and_up = gate_and_up.contiguous()
    num_rows, width = gate_and_up.shape
    output = new_tensor((num_rows, width // 2), gate_and_up.dtype)
    _gate(
        GateCall(
            num_rows=num_rows,
            size=width // 2,
            gate_and_up=address(gate_and_up),
            output=address(output),
            kind=kind,
            type=number_type(gate_and_up.dtype),
        )
    )
    return output
