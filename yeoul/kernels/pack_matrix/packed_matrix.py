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
BLOCK_INPUTS = 64
SCALE_INPUTS = 192
BFLOAT16_BITS = 16
BFLOAT16_BLOCK = 32


class PackedForm(ctypes.Structure):
    """How a matrix is packed: crosses to the kernels as it is."""

    code_bits: int
    step_block: int
    has_starts: int
    _fields_ = (
        ("code_bits", ctypes.c_int32),
        ("step_block", ctypes.c_int32),
        ("has_starts", ctypes.c_int32),
    )

    @property
    def block_bytes(self) -> int:
        """Of 16 outputs by 64 inputs; not for bfloat16."""
        return TILE_OUTPUTS * BLOCK_INPUTS * self.code_bits // 8 + self.step_bytes * (1 + self.has_starts)

    def num_scales(self, num_inputs: int) -> int:
        """How many an output has."""
        return 1 if self.has_block_scales else -(-num_inputs // SCALE_INPUTS)

    @property
    def has_block_scales(self) -> bool:
        """Whether it has float16 scales in its blocks."""
        return self.code_bits == EIGHT_BITS and self.step_block < BLOCK_INPUTS

    @property
    def step_bytes(self) -> int:
        """Of a block: its steps, or its scales; the starts, if there are any, are as many."""
        return BLOCK_INPUTS // self.step_block * TILE_OUTPUTS * 2 if self.code_bits == 4 or self.has_block_scales else 0


EIGHT_BITS = 8
SCALED_BLOCKS = (EIGHT_BITS, 32, False)
PLAIN_BLOCKS = (EIGHT_BITS, BLOCK_INPUTS, False)


class BlockType(NamedTuple):
    """A GGUF type that can be packed: its number in ``pack_matrix.cpp``, inputs a block, and what it becomes."""

    number: int
    block_size: int
    code_bits: int
    step_block: int
    has_starts: bool

    def form(self) -> PackedForm:
        """What a matrix of this type is packed into."""
        return PackedForm(self.code_bits, self.step_block, self.has_starts)


BLOCK_TYPES = {
    "Q4_0": BlockType(0, 32, 4, 32, False),
    "Q4_1": BlockType(1, 32, 4, 32, True),
    "Q5_0": BlockType(2, 32, *SCALED_BLOCKS),
    "Q5_1": BlockType(3, 32, *SCALED_BLOCKS),
    "Q8_0": BlockType(4, 32, *SCALED_BLOCKS),
    "Q2_K": BlockType(5, 256, 4, 16, True),
    "Q3_K": BlockType(6, 256, 4, 16, False),
    "Q4_K": BlockType(7, 256, 4, 32, True),
    "Q5_K": BlockType(8, 256, *SCALED_BLOCKS),
    "Q6_K": BlockType(9, 256, *SCALED_BLOCKS),
}


@dataclass(frozen=True)
class PackedMatrix:
    """``[num_outputs, num_inputs]``.

    Attributes:
        form: how it is packed.
        num_outputs: rows of the matrix; the last tile of 16 may be partly empty.
        num_inputs: columns; the last block of 64 (bfloat16: 32) may be partly empty.
        codes: uint8 ``[num_tiles, num_blocks * form.block_bytes]``, or bfloat16 ``[num_tiles, num_pairs, 16, 2]``.
        scales: float32 ``[num_tiles, form.num_scales(num_inputs), 16]``; None for bfloat16.
    """

    form: PackedForm
    num_outputs: int
    num_inputs: int
    codes: Tensor
    scales: Tensor | None
