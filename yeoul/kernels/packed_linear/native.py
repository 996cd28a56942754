"""Rows times packed quantised weights, natively: one call for all matrices that share their input, and for the norm or the
gate that makes it.

Knows nothing of sharding. Integer weights meet rows that are quantised, see ``quantize_rows.h``, bfloat16 ones bfloat16 rows.
Called through ``kernels.operations``. The truth that it is tested against is tests/unit/kernels/packed_linear_reference.py.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from yeoul.kernels.activation.native import gate_call
from yeoul.kernels.native.calls import GateCall, PackedLinearCall, RmsNormCall
from yeoul.kernels.native_library import address, number_type
from yeoul.kernels.native_operations import NativeOperation, new_tensor
from yeoul.kernels.pack_matrix.packed_matrix import PackedForm, PackedMatrix
from yeoul.kernels.rms_norm.native import norm_call


class _Segment(ctypes.Structure):
    """The same as Segment in ``packed_format.h``."""

    _fields_ = (
        ("codes", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("num_outputs", ctypes.c_int64),
        ("first_output", ctypes.c_int64),
        ("form", PackedForm),
    )


_packed_linear = NativeOperation("packed_linear")


class PackedStack:
    """Matrices that share their input, one on top of the other, and the bias of all."""

    def __init__(self, matrices: list[PackedMatrix], bias: Tensor | None = None) -> None:
        """``bias`` is of any floating type, ``[num_outputs of all]``."""
        assert len({matrix.num_inputs for matrix in matrices}) == 1
        self.matrices = matrices
        self.bias = None if bias is None else bias.float().contiguous()
        self.num_inputs = matrices[0].num_inputs
        self.num_outputs = sum(matrix.num_outputs for matrix in matrices)
        self._segments = (_Segment * len(matrices))(*self._describe())
        self._segments_address = ctypes.addressof(self._segments)
        self._bias_address = address(self.bias)

    def __call__(self, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Multiply.

        A result has the same bits whatever the other rows and the number of threads.

        Args:
            rows: floating ``[num_rows, num_inputs]``; where a number is not finite, nothing of its row's result is.
            dtype: the result's; None is that of ``rows``.

        Returns:
            ``[num_rows, num_outputs]``.
        """
        return self._multiply(rows.contiguous(), dtype or rows.dtype)

    def after_norm(self, stream: Tensor, addend: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
        """The norm of ``stream``, to which ``addend`` is added first, in place, times the matrices: one operation.

        The bits of ``rms_norm`` and of a product after it.
        """
        rows = new_tensor(tuple(stream.shape), stream.dtype)
        return self._multiply(rows, rows.dtype, norm=norm_call(stream, weight, epsilon, addend, rows))

    def after_gate(self, gate_and_up: Tensor, kind: str) -> Tensor:
        """A gate of one of the ``KINDS`` times the matrices: one operation, the bits of two."""
        rows = new_tensor((len(gate_and_up), gate_and_up.shape[1] // 2), gate_and_up.dtype)
        return self._multiply(rows, rows.dtype, gate=gate_call(gate_and_up.contiguous(), kind, rows))

    def _multiply(
        self, rows: Tensor, dtype: torch.dtype, *, norm: RmsNormCall | None = None, gate: GateCall | None = None
    ) -> Tensor:
        """``rows`` times the matrices; a norm or a gate makes the rows first."""
        assert rows.shape[1] == self.num_inputs
        result = new_tensor((rows.shape[0], self.num_outputs), dtype)
        _packed_linear(
            PackedLinearCall(
                num_rows=rows.shape[0],
                size=self.num_inputs,
                output_size=self.num_outputs,
                segments=self._segments_address,
                num_segments=len(self.matrices),
                norm=None if norm is None else norm.address,
                gate=None if gate is None else gate.address,
                input=address(rows),
                bias=self._bias_address,
                output=address(result),
                input_type=number_type(rows.dtype),
                output_type=number_type(result.dtype),
            ),
            norm or gate,
        )
        return result

    def _describe(self) -> list[_Segment]:
        segments, first_output = [], 0
        for matrix in self.matrices:
            addresses = (address(matrix.codes), address(matrix.scales))
            segments.append(_Segment(*addresses, matrix.num_outputs, first_output, matrix.form))
            first_output += matrix.num_outputs
        return segments
