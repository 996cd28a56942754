"""Decoders of ggml's types whose 4-bit codes stand for unevenly spaced numbers; knows nothing of files.

Called through ``kernels.dequantize.reference``. Each takes uint8 ``[n, block_bytes]`` and returns float32. Source: ggml's
``ggml-common.h`` and https://github.com/ggml-org/llama.cpp/pull/5590.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yeoul.kernels.dequantize.bits import as_float, split, unpack

_NUMBERS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def decode_iq4_nl(blocks: Tensor) -> Tensor:
    """32 values: one scale. Files of 2 and 3 bits have it where rows are no multiple of 256."""
    scale, packed = split(blocks, 2, 16)
    return as_float(scale) * _numbers(packed)


def decode_iq4_xs(blocks: Tensor) -> Tensor:
    """256 values, 8 sub-blocks of 32: a signed 6-bit scale each, low four bits and high two bits apart."""
    scale, high, low, packed = split(blocks, 2, 2, 4, 128)
    low_bits = torch.stack((low & 15, low >> 4), dim=2).flatten(1)
    high_bits = unpack(high, 2, 1).flatten(1) << 4
    scales = as_float(scale) * ((low_bits | high_bits).float() - 32.0)
    return (scales.unsqueeze(2) * _numbers(packed).view(-1, 8, 32)).flatten(1)


def _numbers(packed: Tensor) -> Tensor:
    """Of 16 bytes, first the numbers of their low halves, then of their high halves: float32 ``[n, 2 * bytes]``."""
    table = torch.tensor(_NUMBERS, dtype=torch.float32, device=packed.device)
    return table[unpack(packed, 4, 16).flatten(1).int()]
