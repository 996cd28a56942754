"""Packing matrices for the native kernels, and looking packed rows up.

Knows nothing of files. ``models.weights`` packs, ``layers.embedding`` looks up. The truth is ``dequantize.reference`` for
what a matrix is.
"""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from yeoul.kernels.native_library import NativeFunction, address, number_type
from yeoul.kernels.pack_matrix.packed_matrix import (
    BFLOAT16_BITS,
    BFLOAT16_BLOCK,
    BLOCK_INPUTS,
    BLOCK_TYPES,
    PLAIN_BLOCKS,
    SCALE_INPUTS,
    TILE_OUTPUTS,
    PackedForm,
    PackedMatrix,
)

_address, _int64, _form = ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(PackedForm)
_pack_matrix = NativeFunction(
    "pack_matrix", ctypes.c_int, _form, _address, _int64, _address, *[_int64] * 4, _address, _address, result=_int64
)
_unpack_rows = NativeFunction(
    "unpack_rows", _form, _address, _address, *[_int64] * 3, _address, _int64, ctypes.c_int, _address
)
_GROUP_INPUTS = 4
_ZERO = 128
_ROWS_A_PIECE = 1024  # whole tiles


def can_pack(type_name: str, columns: range) -> bool:
    """Whether these columns of a matrix of a GGUF type can be packed: it is quantised, and they are whole blocks."""
    block_type = BLOCK_TYPES.get(type_name)
    return block_type is not None and columns.start % block_type.block_size == 0 == len(columns) % block_type.block_size


def pack_matrix(rows: npt.NDArray[np.uint8], type_name: str, num_inputs: int, row_of: Tensor | None = None) -> PackedMatrix:
    """Pack rows of whole blocks.

    Args:
        rows: uint8 ``[num_rows, num_bytes]``; the bytes of a row are contiguous, rows may be apart.
        type_name: ggml's name, one that ``can_pack`` accepts.
        num_inputs: the numbers in a row, a multiple of the type's block.
        row_of: int64, the row that each output is; None takes all rows in their order.

    Raises:
        ValueError: a block has a scale, or a minimum, that is NaN or infinite.
    """
    block_type = BLOCK_TYPES[type_name]
    form = block_type.form()
    num_outputs = rows.shape[0] if row_of is None else len(row_of)
    num_tiles, num_blocks = -(-num_outputs // TILE_OUTPUTS), -(-num_inputs // BLOCK_INPUTS)
    codes = torch.zeros(num_tiles, num_blocks * form.block_bytes, dtype=torch.uint8)
    scales = torch.zeros(num_tiles, form.num_scales(num_inputs), TILE_OUTPUTS)
    assert rows.strides[1] == 1, "the bytes of a row are contiguous"
    assert num_inputs % block_type.block_size == 0
    num_bad = _pack_matrix(
        block_type.number,
        form,
        rows.ctypes.data,
        rows.strides[0],
        address(row_of),
        num_outputs,
        num_inputs,
        codes.shape[1],
        scales.shape[1] * TILE_OUTPUTS,
        address(codes),
        address(scales),
    )
    if num_bad:
        raise ValueError(f"has blocks in {num_bad} of {num_outputs} rows whose scale is no finite number")
    return PackedMatrix(form, num_outputs, num_inputs, codes, scales)


def pack_int8(matrix: Tensor) -> PackedMatrix:
    """Quantise a floating matrix ``[num_outputs, num_inputs]`` to 8 bits with a scale for each output and 192 inputs."""
    num_outputs, num_inputs = matrix.shape
    firsts = range(0, max(1, num_outputs), _ROWS_A_PIECE)
    pieces = [_int8_tiles(matrix[first : first + _ROWS_A_PIECE]) for first in firsts]
    codes, scales = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    return PackedMatrix(PackedForm(*PLAIN_BLOCKS), num_outputs, num_inputs, codes, scales)


def _int8_tiles(rows: Tensor) -> tuple[Tensor, Tensor]:
    num_filled = -(-rows.shape[1] // BLOCK_INPUTS) * BLOCK_INPUTS
    numbers = torch.nn.functional.pad(rows.float(), (0, -rows.shape[1] % SCALE_INPUTS, 0, -len(rows) % TILE_OUTPUTS))
    numbers = numbers.view(len(numbers), numbers.shape[1] // SCALE_INPUTS, SCALE_INPUTS)
    largest = numbers.abs().amax(dim=2, keepdim=True)
    # A number over a tensor would be that number times the reciprocals, rounded twice.
    inverse = torch.where(largest > 0, torch.full_like(largest, 127.0) / largest, 0.0)
    codes = (numbers * inverse).round_().add_(_ZERO).to(torch.uint8).flatten(1)[:, :num_filled]
    num_tiles = len(numbers) // TILE_OUTPUTS
    tiles = codes.reshape(num_tiles, TILE_OUTPUTS, num_filled // _GROUP_INPUTS, _GROUP_INPUTS).transpose(1, 2).flatten(1)
    scales = (largest / torch.full_like(largest, 127.0)).view(num_tiles, TILE_OUTPUTS, numbers.shape[1]).transpose(1, 2)
    return tiles, scales


def pack_bfloat16(matrix: Tensor) -> PackedMatrix:
    """Lay a bfloat16 matrix ``[num_outputs, num_inputs]`` out for the native kernels."""
    num_outputs, num_inputs = matrix.shape
    num_pairs = -(-num_inputs // BFLOAT16_BLOCK) * BFLOAT16_BLOCK // 2
    tiles = torch.zeros(-(-num_outputs // TILE_OUTPUTS), num_pairs, TILE_OUTPUTS, 2, dtype=torch.bfloat16)
    for first in range(0, num_outputs, _ROWS_A_PIECE):
        rows = matrix[first : first + _ROWS_A_PIECE]
        filled = torch.nn.functional.pad(rows, (0, 2 * num_pairs - num_inputs, 0, -len(rows) % TILE_OUTPUTS))
        of_tiles = filled.view(-1, TILE_OUTPUTS, num_pairs, 2).transpose(1, 2)
        tiles[first // TILE_OUTPUTS :][: len(of_tiles)] = of_tiles
    return PackedMatrix(PackedForm(BFLOAT16_BITS, 0, 0), num_outputs, num_inputs, tiles, None)


def unpack_rows(matrix: PackedMatrix, indices: Tensor, dtype: torch.dtype) -> Tensor:
    """Look up rows: int64 ``indices`` ``[num_rows]``, all below ``num_outputs``, to ``[num_rows, num_inputs]``."""
    if matrix.form.code_bits == BFLOAT16_BITS:
        rows = matrix.codes[indices // TILE_OUTPUTS, :, indices % TILE_OUTPUTS]
        return rows.flatten(1)[:, : matrix.num_inputs].to(dtype).contiguous()
    numbers = torch.empty(len(indices), matrix.num_inputs, dtype=dtype)
    indices = indices.contiguous()
    _unpack_rows(
        matrix.form,
        address(matrix.codes),
        address(matrix.scales),
        matrix.codes.shape[1],
        matrix.form.num_scales(matrix.num_inputs) * TILE_OUTPUTS,
        matrix.num_inputs,
        address(indices),
        len(indices),
        number_type(dtype),
        address(numbers),
    )
    return numbers
