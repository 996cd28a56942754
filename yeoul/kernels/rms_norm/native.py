"""Root mean square normalisation natively, for a CPU; see ``reference.py``. Called through ``kernels.operations``."""

from __future__ import annotations

from torch import Tensor

from yeoul.kernels.native.calls import RmsNormCall
from yeoul.kernels.native_library import address, number_type
from yeoul.kernels.native_operations import NativeOperation, new_tensor

_rms_norm = NativeOperation("rms_norm")


def rms_norm(values: Tensor, weight: Tensor, epsilon: float, addend: Tensor | None = None) -> Tensor:
    """See ``reference.rms_norm``; what is added to must be contiguous."""
    if addend is None:
        values = values.contiguous()
    output = new_tensor(values.shape, values.dtype)
    _rms_norm(norm_call(values, weight, epsilon, addend, output))
    return output


def norm_call(values: Tensor, weight: Tensor, epsilon: float, addend: Tensor | None, output: Tensor) -> RmsNormCall:
    """The structure of a norm, for an operation that computes it by itself."""
    size = values.shape[-1]
    return RmsNormCall(
        num_rows=values.numel() // size,
        size=size,
        weight=address(weight),
        values=address(values),
        addend=address(None if addend is None else addend.contiguous()),
        output=address(output),
        epsilon=epsilon,
        type=number_type(values.dtype),
    )
