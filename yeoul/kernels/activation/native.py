"""Gated activations natively, for a CPU; see ``reference.py``. Called through ``kernels.operations``."""

from __future__ import annotations

from torch import Tensor

from yeoul.kernels.native.calls import GateCall
from yeoul.kernels.native_library import address, number_type
from yeoul.kernels.native_operations import NativeOperation, new_tensor

KINDS = {"silu": 0, "gelu_tanh": 1}  # the same as in gate_row.h
_gate = NativeOperation("gate")


def silu_gate(gate_and_up: Tensor) -> Tensor:
    """See ``reference.silu_gate``."""
    return _apply("silu", gate_and_up)


def gelu_tanh_gate(gate_and_up: Tensor) -> Tensor:
    """See ``reference.gelu_tanh_gate``."""
    return _apply("gelu_tanh", gate_and_up)


def gate_call(kind: str, gate_and_up: Tensor, output: Tensor) -> GateCall:
    """The structure of a gate, for an operation that computes it by itself."""
    return GateCall(
        num_rows=len(gate_and_up),
        size=gate_and_up.shape[1] // 2,
        gate_and_up=address(gate_and_up),
        output=address(output),
        kind=KINDS[kind],
        type=number_type(gate_and_up.dtype),
    )


def _apply(kind: str, gate_and_up: Tensor) -> Tensor:
    gate_and_up = gate_and_up.contiguous()
    output = new_tensor((len(gate_and_up), gate_and_up.shape[1] // 2), gate_and_up.dtype)
    _gate(gate_call(kind, gate_and_up, output))
    return output
