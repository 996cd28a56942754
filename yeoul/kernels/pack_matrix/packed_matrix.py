"""PackedMatrix: a matrix, quantised or of bfloat16, as the native kernels read it; knows nothing of files.

Made by ``pack_matrix.native``, multiplied by ``packed_linear``, looked up by ``pack_matrix.native.unpack_rows``.
The layout is described in ``packed_linear/packed_format.h``.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

TILE_OUTPUTS = 16


class PackedForm(ctypes.Structure):
    """How a matrix is packed: crosses to the kernels as it is."""

    code_bits: int
    scale_block: int
    has_half_scales: int
    has_minimums: int
    _fields_ = (
        ("code_bits", ctypes.c_int32),
        ("scale_block", ctypes.c_int32),
        ("has_half_scales", ctypes.c_int32),
        ("has_minimums", ctypes.c_int32),
    )


class BlockType(NamedTuple):
    """A GGUF type that can be packed: its number in ``pack_matrix.cpp``, inputs a block, and what it becomes."""

    number: int
    block_size: int
    code_bits: int
    scale_block: int
    has_half_scales: bool
    has_minimums: bool

    def form(self) -> PackedForm:
        """What a matrix of this type is packed into."""
        return PackedForm(self.code_bits, self.scale_block, self.has_half_scales, self.has_minimums)


# Scales of the K types are products of a float16 and a small integer, which float16 cannot hold.
BLOCK_TYPES = {
    "Q4_0": BlockType(0, 32, 4, 32, True, False),
    "Q4_1": BlockType(1, 32, 4, 32, True, True),
    "Q5_0": BlockType(2, 32, 8, 32, True, False),
    "Q5_1": BlockType(3, 32, 8, 32, True, True),
    "Q8_0": BlockType(4, 32, 8, 32, True, False),
    "Q2_K": BlockType(5, 256, 4, 16, False, True),
    "Q3_K": BlockType(6, 256, 4, 16, False, False),
    "Q4_K": BlockType(7, 256, 4, 32, False, True),
    "Q5_K": BlockType(8, 256, 8, 32, False, True),
    "Q6_K": BlockType(9, 256, 8, 16, False, False),
}


BFLOAT16_BITS = 16


@dataclass(frozen=True)
class PackedMatrix:
    """``[num_outputs, num_inputs]``.

    Attributes:
        form: how it is packed.
        num_outputs: rows of the matrix; the last tile of 16 may be partly empty.
        num_inputs: columns; of quantised ones a multiple of 32.
        codes: uint8 ``[num_tiles, num_inputs * 16 * code_bits / 8]``, or bfloat16 ``[num_tiles, num_inputs / 2, 16, 2]``.
        scales: float16 or float32 ``[num_tiles, num_inputs / scale_block, 16]``; None for bfloat16.
        minimums: like ``scales``, or None where the form has an offset.
    """

    form: PackedForm
    num_outputs: int
    num_inputs: int
    codes: Tensor
    scales: Tensor | None
    minimums: Tensor | None
