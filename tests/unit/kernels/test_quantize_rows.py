"""Quantising rows, on every instruction set, against the reference."""

from __future__ import annotations

import pytest
import torch

from yeoul.kernels.native_library import InstructionSet, instruction_sets, using
from yeoul.kernels.quantize_rows import native, reference


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 32), (3, 576), (11, 640), (2, 50), (5, 7)])
def test_codes_scales_and_sums_are_those_of_the_reference(
    instruction_set: InstructionSet, dtype: torch.dtype, shape: tuple[int, int]
):
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(shape, generator=generator).to(dtype)
    rows[0] = 0
    with using(instruction_set):
        found = native.quantize_rows(rows)
    for ours, truth in zip(found, reference.quantize_rows(rows), strict=True):
        assert torch.equal(ours, truth)
