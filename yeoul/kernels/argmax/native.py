"""The likeliest token of each row natively, for a CPU; see ``reference.py``. Called through ``kernels.operations``."""

from __future__ import annotations

import torch
from torch import Tensor

from yeoul.kernels.native.calls import ArgmaxCall
from yeoul.kernels.native_library import address
from yeoul.kernels.native_operations import NativeOperation, new_tensor

_argmax = NativeOperation("argmax")


def argmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """See ``reference.argmax``."""
    logits = logits.contiguous()
    num_rows, size = logits.shape
    places, highest = new_tensor((num_rows,), torch.int64), new_tensor((num_rows,), torch.float32)
    _argmax(
        ArgmaxCall(num_rows=num_rows, size=size, values=address(logits), places=address(places), highest=address(highest))
    )
    return places, highest
