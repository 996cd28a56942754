"""Rows times packed weights in plain torch: the truth that the native kernels are tested against. Slow: it unpacks them."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.unit.kernels.quantize_rows_reference import BLOCK_SIZE, quantize_rows
from yeoul.kernels.pack_matrix.packed_matrix import EIGHT_BITS, SCALE_INPUTS, TILE_OUTPUTS, PackedForm, PackedMatrix


def packed_linear(rows: Tensor, matrices: list[PackedMatrix], bias: Tensor | None = None) -> Tensor:
    """``rows @ weight.T + bias`` for the matrices stacked; integer weights meet quantised rows, bfloat16 ones bfloat16.

    Args:
        rows: floating ``[num_rows, num_inputs]``.
        matrices: of ``num_inputs`` each.
        bias: float32 ``[num_outputs of all]``.

    Returns:
        float32 ``[num_rows, num_outputs of all]``.
    """
    result = torch.cat([_product(matrix, rows) for matrix in matrices], dim=1).float()
    return result if bias is None else result + bias


def _product(matrix: PackedMatrix, rows: Tensor) -> Tensor:
    if matrix.scales is None:
        return rows.bfloat16().double() @ unpack(matrix).double().T
    quantized = quantize_rows(rows)
    blocks = quantized.codes.view(len(rows), -1, BLOCK_SIZE).double() * quantized.scales.double().unsqueeze(2)
    return blocks.flatten(1)[:, : matrix.num_inputs] @ unpack(matrix, torch.float64).T


def unpack(matrix: PackedMatrix, dtype: torch.dtype = torch.float32) -> Tensor:
    """The whole matrix: ``[num_outputs, num_inputs]`` of ``dtype``, float32 or float64."""
    if matrix.scales is not None:
        scales = _widen(matrix.scales, matrix.num_inputs if matrix.scales.shape[1] == 1 else SCALE_INPUTS)
        return scales[: matrix.num_outputs, : matrix.num_inputs].to(dtype) * _without_scales(matrix).to(dtype)
    tiles = matrix.codes.transpose(1, 2).reshape(len(matrix.codes) * TILE_OUTPUTS, -1)
    return tiles[: matrix.num_outputs, : matrix.num_inputs].to(dtype)


def _without_scales(matrix: PackedMatrix) -> Tensor:
    numbers = integers(matrix).float()
    if not matrix.form.has_block_scales:
        return numbers
    scales = _blocks(matrix)[:, :, : matrix.form.step_bytes].contiguous().view(torch.float16).float()
    wide = _widen(scales.reshape(len(scales), -1, TILE_OUTPUTS), matrix.form.step_block)
    return wide[: matrix.num_outputs, : matrix.num_inputs] * numbers


def integers(matrix: PackedMatrix) -> Tensor:
    """The integers that the rows' codes are multiplied with: int32 ``[num_outputs, num_inputs]``, from -128 to 127."""
    form, blocks = matrix.form, _blocks(matrix)
    numbers = _by_output(blocks[:, :, form.step_bytes :]) if form.code_bits == EIGHT_BITS else _expanded(form, blocks)
    return (numbers - 128)[: matrix.num_outputs, : matrix.num_inputs]


def _blocks(matrix: PackedMatrix) -> Tensor:
    return matrix.codes.view(len(matrix.codes), -1, matrix.form.block_bytes)


def _expanded(form: PackedForm, blocks: Tensor) -> Tensor:
    """The numbers of 8 bits that 4-bit codes stand for: int32 ``[outputs, inputs]``."""
    steps = _for_each_input(blocks[:, :, : form.step_bytes], form.step_block)
    starts = 128 * 256 + 128 - 8 * steps
    if form.has_starts:
        starts = _for_each_input(blocks[:, :, form.step_bytes : 2 * form.step_bytes], form.step_block)
    lines = blocks[:, :, form.step_bytes * (1 + form.has_starts) :].reshape(*blocks.shape[:2], -1, 1, TILE_OUTPUTS, 4)
    codes = _by_output(torch.cat((lines & 15, lines >> 4), dim=3).flatten(2))
    return (codes * steps + starts) % (1 << 16) >> 8


def _by_output(blocks: Tensor) -> Tensor:
    """``[num_tiles, num_blocks, 16 groups of 16 outputs by 4 inputs]`` to int32 ``[outputs, inputs]``."""
    groups = blocks.reshape(len(blocks), -1, TILE_OUTPUTS, 4).transpose(1, 2)
    return groups.reshape(len(blocks) * TILE_OUTPUTS, -1).to(torch.int32)


def _for_each_input(numbers: Tensor, step_block: int) -> Tensor:
    """Bytes of ``[num_tiles, num_blocks, 64 / step_block, 16]`` numbers to int32 ``[outputs, inputs]``."""
    two_bytes = numbers.reshape(*numbers.shape[:2], -1, TILE_OUTPUTS, 2).to(torch.int32)
    return _widen((two_bytes[..., 0] | two_bytes[..., 1] << 8).flatten(1, 2), step_block)


def _widen(numbers: Tensor, num_inputs: int) -> Tensor:
    """``[num_tiles, n, 16]`` to ``[outputs, n * num_inputs]``, each number as often as inputs share it."""
    by_output = numbers.transpose(1, 2).reshape(len(numbers) * TILE_OUTPUTS, -1)
    return by_output.repeat_interleave(num_inputs, dim=1)
