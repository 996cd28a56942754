"""Quantising rows, which products do by themselves, on every instruction set, against the reference."""

from __future__ import annotations

import pytest
import torch

from tests.unit.kernels.quantize_rows_reference import BLOCK_SIZE, quantize_rows
from yeoul.kernels.native_library import InstructionSet, instruction_sets, using
from yeoul.kernels.pack_matrix.native import pack_int8
from yeoul.kernels.packed_linear.native import PackedStack


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 32), (3, 576), (11, 640), (2, 50), (5, 7)])
def test_a_matrix_of_one_number_an_output_shows_codes_and_scales_which_are_the_references(
    instruction_set: InstructionSet, dtype: torch.dtype, shape: tuple[int, int]
):
    """An output is 127 times a code times its block's scale, and nothing else: a sum that is not the codes' would show."""
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    rows[0] = 0
    with using(instruction_set):
        found = PackedStack([pack_int8(127 * torch.eye(shape[1]))])(rows, torch.float32)
    truth = quantize_rows(rows)
    expected = (127 * truth.codes.float() * truth.scales.repeat_interleave(BLOCK_SIZE, dim=1))[:, : shape[1]]
    assert torch.equal(found, expected)
