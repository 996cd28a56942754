"""Choosing one token a row natively, for a CPU; see ``reference.py``. Called through ``kernels.operations``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from yeoul.kernels.native.calls import SampleCall
from yeoul.kernels.native_library import address
from yeoul.kernels.native_operations import NativeOperation, new_tensor
from yeoul.kernels.sampling.sampling_rows import SAMPLING_ROW, SamplingRows, TokenMasks

_sample = NativeOperation("sample")


def sample(logits: Tensor, rows: SamplingRows, masks: TokenMasks | None = None) -> tuple[Tensor, Tensor]:
    """See ``reference.sample``."""
    num_rows, size = logits.shape
    assert rows.shape == (num_rows,)
    assert rows.dtype == SAMPLING_ROW
    rows = np.ascontiguousarray(rows)
    if masks is not None:
        assert masks.shape == (num_rows, -(-size // 32))
        assert masks.dtype == np.int32
        assert masks.flags.c_contiguous
    token_ids, highest = new_tensor((num_rows,), torch.int64), new_tensor((num_rows,), torch.float32)
    _sample(
        SampleCall(
            num_rows=num_rows,
            size=size,
            logits=address(logits),
            rows=rows.ctypes.data,
            token_ids=address(token_ids),
            highest=address(highest),
            masks=None if masks is None else masks.ctypes.data,
        )
    )
    return token_ids, highest
