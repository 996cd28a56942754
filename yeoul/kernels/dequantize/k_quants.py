"""Decoders of ggml's K types: blocks of 256 elements in sub-blocks with scales of their own; knows nothing of files.

Called through ``kernels.dequantize.reference``. Each takes uint8 ``[n, block_bytes]`` and returns float32 ``[n, 256]``.
Source: https://github.com/ggml-org/llama.cpp/pull/1684 and ggml's ``ggml-common.h``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yeoul.kernels.dequantize.bits import as_float, split, unpack


def decode_q2(blocks: Tensor) -> Tensor:
    """16 sub-blocks of 16: a 4-bit scale and a 4-bit minimum each, 2-bit values."""
    packed_scales, packed, scale, minimum = split(blocks, 16, 64, 2, 2)
    scales = (as_float(scale) * (packed_scales & 15).float()).unsqueeze(2)
    minimums = (as_float(minimum) * (packed_scales >> 4).float()).unsqueeze(2)
    values = unpack(packed, 2, 32).reshape(-1, 16, 16).float()
    return (scales * values - minimums).flatten(1)


def decode_q3(blocks: Tensor) -> Tensor:
    """16 sub-blocks of 16: a signed 6-bit scale each, 2-bit values with a third bit that says "do not subtract 4"."""
    third_bits, packed, packed_scales, scale = split(blocks, 32, 64, 12, 2)
    low, high = packed_scales[:, :8].contiguous(), packed_scales[:, 8:].contiguous()
    six_bits = unpack(low, 4, 8).flatten(1) | (unpack(high, 2, 4).flatten(1) << 4)
    scales = (as_float(scale) * (six_bits.float() - 32.0)).unsqueeze(2)
    two_bits = unpack(packed, 2, 32).reshape(-1, 16, 16).float()
    subtracted = 4.0 * (1.0 - unpack(third_bits, 1, 32).reshape(-1, 16, 16).float())
    return (scales * (two_bits - subtracted)).flatten(1)


def decode_q4(blocks: Tensor) -> Tensor:
    """8 sub-blocks of 32: a 6-bit scale and a 6-bit minimum each, 4-bit values."""
    scale, minimum, packed_scales, packed = split(blocks, 2, 2, 12, 128)
    scales, minimums = _six_bit_pairs(packed_scales)
    values = unpack(packed, 4, 32).reshape(-1, 8, 32).float()
    return _scaled(as_float(scale) * scales, as_float(minimum) * minimums, values)


def decode_q5(blocks: Tensor) -> Tensor:
    """Like ``decode_q4``, with a fifth bit for each value."""
    scale, minimum, packed_scales, fifth_bits, packed = split(blocks, 2, 2, 12, 32, 128)
    scales, minimums = _six_bit_pairs(packed_scales)
    values = unpack(packed, 4, 32).reshape(-1, 8, 32) | (unpack(fifth_bits, 1, 32).reshape(-1, 8, 32) << 4)
    return _scaled(as_float(scale) * scales, as_float(minimum) * minimums, values.float())


def decode_q6(blocks: Tensor) -> Tensor:
    """16 sub-blocks of 16: a signed 8-bit scale each, 4-bit values with two more bits."""
    low, high, packed_scales, scale = split(blocks, 128, 64, 16, 2)
    scales = (as_float(scale) * packed_scales.view(torch.int8).float()).unsqueeze(2)
    six_bits = unpack(low, 4, 64).reshape(-1, 256) | (unpack(high, 2, 32).reshape(-1, 256) << 4)
    return (scales * (six_bits.reshape(-1, 16, 16).float() - 32.0)).flatten(1)


def _six_bit_pairs(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Take 8 scales and 8 minimums of 6 bits out of 12 bytes: float32 ``[n, 8]`` both.

    The first four of each are the low six bits of bytes 0-3 and 4-7; the last four have their low four bits in the
    halves of bytes 8-11 and their high two bits on top of bytes 0-3 and 4-7.
    """
    first, second, third = split(packed, 4, 4, 4)
    scales = torch.cat((first & 63, (third & 15) | ((first >> 6) << 4)), dim=1)
    minimums = torch.cat((second & 63, (third >> 4) | ((second >> 6) << 4)), dim=1)
    return scales.float(), minimums.float()


def _scaled(scales: Tensor, minimums: Tensor, values: Tensor) -> Tensor:
    return (scales.unsqueeze(2) * values - minimums.unsqueeze(2)).flatten(1)
