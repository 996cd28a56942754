"""The likeliest token of each row natively, for a CPU; see ``reference.py``. Called through ``kernels.operations``."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from yeoul.kernels.native_library import NativeFunction

_argmax = NativeFunction("argmax", *([ctypes.c_int64] * 2), *([ctypes.c_void_p] * 3))


def argmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """See ``reference.argmax``."""
    logits = logits.contiguous()
    num_rows, size = logits.shape
    places, highest = torch.empty(num_rows, dtype=torch.int64), torch.empty(num_rows)
    _argmax(num_rows, size, logits.data_ptr(), places.data_ptr(), highest.data_ptr())
    return places, highest
