"""Packing GGUF's blocks for the integer kernels, and looking packed rows up; exact both ways.

Knows nothing of files. ``models.weights`` packs, ``layers.embedding`` looks up. The truth is ``dequantize.reference``.
"""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from yeoul.kernels.native_library import NativeFunction, address, number_type
from yeoul.kernels.pack_matrix.packed_matrix import BFLOAT16_BITS, BLOCK_TYPES, TILE_OUTPUTS, PackedForm, PackedMatrix

_address, _int64, _form = ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(PackedForm)
_pack_matrix = NativeFunction(
    "pack_matrix", ctypes.c_int, _form, _address, _int64, _address, _int64, _int64, _address, _address, _address
)
_unpack_rows = NativeFunction(
    "unpack_rows", _form, _address, _address, _address, _int64, _address, _int64, ctypes.c_int, _address
)


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
    """
    block_type = BLOCK_TYPES[type_name]
    form = block_type.form()
    num_outputs = rows.shape[0] if row_of is None else len(row_of)
    num_tiles = -(-num_outputs // TILE_OUTPUTS)
    codes = torch.zeros(num_tiles, num_inputs * TILE_OUTPUTS * form.code_bits // 8, dtype=torch.uint8)
    scales_type = torch.float16 if form.has_half_scales else torch.float32
    scales = torch.zeros(num_tiles, num_inputs // form.scale_block, TILE_OUTPUTS, dtype=scales_type)
    minimums = torch.zeros_like(scales) if form.has_minimums else None
    assert rows.strides[1] == 1, "the bytes of a row are contiguous"
    assert num_inputs % block_type.block_size == 0
    _pack_matrix(
        block_type.number,
        form,
        rows.ctypes.data,
        rows.strides[0],
        address(row_of),
        num_outputs,
        num_inputs,
        address(codes),
        address(scales),
        address(minimums),
    )
    return PackedMatrix(form, num_outputs, num_inputs, codes, scales, minimums)


def pack_bfloat16(matrix: Tensor) -> PackedMatrix:
    """Lay a bfloat16 matrix ``[num_outputs, num_inputs]`` out for the native kernels."""
    num_outputs, num_inputs = matrix.shape
    filled = torch.nn.functional.pad(matrix, (0, num_inputs % 2, 0, -num_outputs % TILE_OUTPUTS))
    tiles = filled.view(-1, TILE_OUTPUTS, filled.shape[1] // 2, 2).transpose(1, 2).contiguous()
    return PackedMatrix(PackedForm(BFLOAT16_BITS, 0, 0, 0), num_outputs, num_inputs, tiles, None, None)


def unpack_rows(matrix: PackedMatrix, indices: Tensor, dtype: torch.dtype) -> Tensor:
    """Look up rows: int64 ``indices`` ``[num_rows]``, all below ``num_outputs``, to ``[num_rows, num_inputs]``."""
    if matrix.form.code_bits == BFLOAT16_BITS:
        rows = matrix.codes[indices // TILE_OUTPUTS, :, indices % TILE_OUTPUTS]
        return rows.flatten(1)[:, : matrix.num_inputs].to(dtype)
    numbers = torch.empty(len(indices), matrix.num_inputs, dtype=dtype)
    indices = indices.contiguous()
    _unpack_rows(
        matrix.form,
        address(matrix.codes),
        address(matrix.scales),
        address(matrix.minimums),
        matrix.num_inputs,
        address(indices),
        len(indices),
        number_type(dtype),
        address(numbers),
    )
    return numbers
