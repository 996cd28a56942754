"""Gated activations natively, for a CPU; see ``reference.py``. Called through ``kernels.operations``."""

from __future__ import annotations

from torch import Tensor

from yeoul.kernels.native.calls import GateCall
from yeoul.kernels.native_library import address, number_type
from yeoul.kernels.native_operations import NativeOperation, new_tensor

KINDS = {"silu": 0, "gelu_tanh": 1}  # the same as in gate_row.h
_gate = NativeOperation("gate")


def gate(gate_and_up: Tensor, kind: str) -> Tensor:
    """See ``reference.gate``."""
    gate_and_up = gate_and_up.contiguous()
    output = new_tensor((len(gate_and_up), gate_and_up.shape[1] // 2), gate_and_up.dtype)
    _gate(gate_call(gate_and_up, kind, output))
    return output


def gate_call(gate_and_up: Tensor, kind: str, output: Tensor) -> GateCall:
    """The structure of a gate, for an operation that computes it by itself."""
    return GateCall(
        num_rows=len(gate_and_up),
        size=gate_and_up.shape[1] // 2,
        gate_and_up=address(gate_and_up),
        output=address(output),
        kind=KINDS[kind],
        type=number_type(gate_and_up.dtype),
    )
