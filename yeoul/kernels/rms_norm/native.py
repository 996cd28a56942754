"""Root mean square normalisation natively, for a CPU; see ``reference.py``. Called through ``kernels.operations``."""

from __future__ import annotations

from torch import Tensor

from yeoul.kernels.native.calls import RmsNormCall
from yeoul.kernels.native_library import address, number_type
from yeoul.kernels.native_operations import NativeOperation, new_tensor

_rms_norm = NativeOperation("rms_norm")


def rms_norm(values: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """See ``reference.rms_norm``."""
    return _norm(values.contiguous(), None, weight, epsilon)


def add_and_norm(values: Tensor, addend: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Adds ``addend`` to ``values``, in place, and normalises the sum. See ``reference.add_and_norm``."""
    return _norm(values, addend.contiguous(), weight, epsilon)


def norm_call(values: Tensor, addend: Tensor | None, weight: Tensor, epsilon: float, output: Tensor) -> RmsNormCall:
    """The structure of a norm, for an operation that computes it by itself."""
    size = values.shape[-1]
    return RmsNormCall(
        num_rows=values.numel() // size,
        size=size,
        weight=address(weight),
        values=address(values),
        addend=address(addend),
        sum=address(values),
        output=address(output),
        epsilon=epsilon,
        type=number_type(values.dtype),
    )


def _norm(values: Tensor, addend: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
    output = new_tensor(values.shape, values.dtype)
    _rms_norm(norm_call(values, addend, weight, epsilon, output))
    return output
