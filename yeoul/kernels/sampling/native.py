"""Choosing one token a row natively, for a CPU; see ``reference.py``. Called through ``kernels.operations``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from yeoul.kernels.native.calls import SampleCall
from yeoul.kernels.native_library import address
from yeoul.kernels.native_operations import NativeOperation, new_tensor
from yeoul.kernels.sampling.sampling_rows import SAMPLING_ROW, SamplingRows

_sample = NativeOperation("sample")


def sample(logits: Tensor, rows: SamplingRows) -> tuple[Tensor, Tensor]:
    """See ``reference.sample``."""
    num_rows, size = logits.shape
    assert rows.shape == (num_rows,)
    assert rows.dtype == SAMPLING_ROW
    rows = np.ascontiguousarray(rows)
    token_ids, highest = new_tensor((num_rows,), torch.int64), new_tensor((num_rows,), torch.float32)
    _sample(
        SampleCall(
            num_rows=num_rows,
            size=size,
            logits=address(logits),
            rows=rows.ctypes.data,
            token_ids=address(token_ids),
            highest=address(highest),
        )
    )
    return token_ids, highest
