"""Rows times packed weights in plain torch: the truth that the native kernels are tested against.

Knows nothing of sharding. Slow: it unpacks the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yeoul.kernels.pack_matrix.packed_matrix import BFLOAT16_BITS, TILE_OUTPUTS, PackedMatrix
from yeoul.kernels.quantize_rows.reference import BLOCK_SIZE, quantize_rows


def packed_linear(rows: Tensor, matrices: list[PackedMatrix], bias: Tensor | None = None) -> Tensor:
    """``rows @ weight.T + bias`` for the matrices stacked; quantised weights meet quantised rows, bfloat16 ones bfloat16.

    Args:
        rows: floating ``[num_rows, num_inputs]``.
        matrices: of ``num_inputs`` each.
        bias: float32 ``[num_outputs of all]``.

    Returns:
        float32 ``[num_rows, num_outputs of all]``.
    """
    result = torch.cat([_rows_for(matrix, rows) @ unpack(matrix).double().T for matrix in matrices], dim=1).float()
    return result if bias is None else result + bias


def _rows_for(matrix: PackedMatrix, rows: Tensor) -> Tensor:
    if matrix.form.code_bits == BFLOAT16_BITS:
        return rows.bfloat16().double()
    quantized = quantize_rows(rows)
    blocks = quantized.codes.view(len(rows), -1, BLOCK_SIZE).double() * quantized.scales.double().unsqueeze(2)
    return blocks.flatten(1)


def unpack(matrix: PackedMatrix) -> Tensor:
    """The whole matrix: float32 ``[num_outputs, num_inputs]``."""
    codes = matrix.codes
    if matrix.scales is None:
        return codes.transpose(1, 2).reshape(len(codes) * TILE_OUTPUTS, -1)[: matrix.num_outputs, : matrix.num_inputs].float()
    num_tiles, num_groups = len(codes), matrix.num_inputs // 4
    if matrix.form.code_bits == 4:
        lines = codes.view(num_tiles, num_groups // 2, 1, 64)
        codes = torch.cat((lines & 15, lines >> 4), dim=2)
    groups = codes.view(num_tiles, num_groups, TILE_OUTPUTS, 4).transpose(1, 2).float()
    blocks = groups.reshape(num_tiles, TILE_OUTPUTS, -1, matrix.form.scale_block)
    scales = matrix.scales.float().transpose(1, 2).unsqueeze(3)
    if matrix.minimums is not None:
        weights = scales * blocks + matrix.minimums.float().transpose(1, 2).unsqueeze(3)
    else:
        weights = scales * (blocks - (8.0 if matrix.form.code_bits == 4 else 128.0))
    return weights.reshape(num_tiles * TILE_OUTPUTS, -1)[: matrix.num_outputs]
