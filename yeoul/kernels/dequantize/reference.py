"""Turning GGUF's tensor types into float32 in plain torch: the truth that every other implementation is tested against.

Knows nothing of files. Called through ``kernels.operations``; ``models.weights`` uses ``block_format`` to cut rows
between blocks. The types are those of ggml (https://github.com/ggml-org/ggml, ``ggml-common.h``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from yeoul.errors import ModelFileError
from yeoul.kernels.dequantize import k_quants, nonlinear
from yeoul.kernels.dequantize.bits import as_float, split, unpack


class BlockFormat(NamedTuple):
    """``block_bytes`` bytes hold ``block_size`` elements of a row; ``decode`` turns ``[n, block_bytes]`` into float32."""

    block_size: int
    block_bytes: int
    decode: Callable[[Tensor], Tensor]


def dequantize(rows: Tensor, type_name: str) -> Tensor:
    """Decode whole blocks.

    Args:
        rows: uint8 ``[num_rows, num_bytes]``, contiguous; ``num_bytes`` a multiple of the type's block.
        type_name: ggml's name, such as ``Q4_K``.

    Returns:
        float32 ``[num_rows, num_elements]``.

    Raises:
        ModelFileError: for a type that is not known.
    """
    form = block_format(type_name)
    return form.decode(rows.reshape(-1, form.block_bytes)).reshape(rows.shape[0], -1)


def block_format(type_name: str) -> BlockFormat:
    """The layout of a type; raises ModelFileError for one that is not known."""
    form = _FORMATS.get(type_name)
    if form is None:
        raise ModelFileError(f"cannot compute with tensors of type {type_name}; expected one of {', '.join(_FORMATS)}")
    return form


def _f32(blocks: Tensor) -> Tensor:
    return blocks.view(torch.float32)


def _f16(blocks: Tensor) -> Tensor:
    return blocks.view(torch.float16).float()


def _bf16(blocks: Tensor) -> Tensor:
    return blocks.view(torch.bfloat16).float()


def _q4_0(blocks: Tensor) -> Tensor:
    scale, packed = split(blocks, 2, 16)
    return as_float(scale) * (unpack(packed, 4, 16).flatten(1).float() - 8.0)


def _q4_1(blocks: Tensor) -> Tensor:
    scale, minimum, packed = split(blocks, 2, 2, 16)
    return as_float(scale) * unpack(packed, 4, 16).flatten(1).float() + as_float(minimum)


def _fifth_bits(packed: Tensor) -> Tensor:
    """Spread 4 bytes to 32 bits, least significant first, worth 16 each: ``[n, 32]``."""
    return unpack(packed, 1, 1).flatten(1) << 4


def _q5_0(blocks: Tensor) -> Tensor:
    scale, high, low = split(blocks, 2, 4, 16)
    return as_float(scale) * ((unpack(low, 4, 16).flatten(1) | _fifth_bits(high)).float() - 16.0)


def _q5_1(blocks: Tensor) -> Tensor:
    scale, minimum, high, low = split(blocks, 2, 2, 4, 16)
    return as_float(scale) * (unpack(low, 4, 16).flatten(1) | _fifth_bits(high)).float() + as_float(minimum)


def _q8_0(blocks: Tensor) -> Tensor:
    scale, values = split(blocks, 2, 32)
    return as_float(scale) * values.view(torch.int8).float()


_FORMATS: dict[str, BlockFormat] = {
    "F32": BlockFormat(1, 4, _f32),
    "F16": BlockFormat(1, 2, _f16),
    "BF16": BlockFormat(1, 2, _bf16),
    "Q4_0": BlockFormat(32, 18, _q4_0),
    "Q4_1": BlockFormat(32, 20, _q4_1),
    "Q5_0": BlockFormat(32, 22, _q5_0),
    "Q5_1": BlockFormat(32, 24, _q5_1),
    "Q8_0": BlockFormat(32, 34, _q8_0),
    "Q2_K": BlockFormat(256, 84, k_quants.decode_q2),
    "Q3_K": BlockFormat(256, 110, k_quants.decode_q3),
    "Q4_K": BlockFormat(256, 144, k_quants.decode_q4),
    "Q5_K": BlockFormat(256, 176, k_quants.decode_q5),
    "Q6_K": BlockFormat(256, 210, k_quants.decode_q6),
    "IQ4_NL": BlockFormat(32, 18, nonlinear.decode_iq4_nl),
    "IQ4_XS": BlockFormat(256, 136, nonlinear.decode_iq4_xs),
}
