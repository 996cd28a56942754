"""Packing matrices and multiplying with them, on every instruction set, against the references."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.unit.kernels.packed_linear_reference import integers, packed_linear, unpack
from yeoul.kernels.dequantize.reference import block_format, dequantize
from yeoul.kernels.native_library import InstructionSet, instruction_sets, using
from yeoul.kernels.pack_matrix.native import can_pack, pack_bfloat16, pack_int8, pack_matrix, unpack_rows
from yeoul.kernels.pack_matrix.packed_matrix import BLOCK_TYPES, PackedMatrix
from yeoul.kernels.packed_linear.native import PackedStack

ON_EVERY_SET = pytest.mark.parametrize("instruction_set", instruction_sets())
ON_EVERY_TYPE = pytest.mark.parametrize("type_name", BLOCK_TYPES)
# Where a block has its scale, and its minimum if it has one; elsewhere it begins with the scale.
SCALE_PLACES = {
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "Q4_1": (0, 2),
    "Q5_1": (0, 2),
}


def stored_rows(type_name: str, num_rows: int, num_inputs: int, seed: int = 0) -> Tensor:
    """Random blocks of a type: any bytes are a block, but scales have to be finite and of a sensible size."""
    form = block_format(type_name)
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (num_rows * num_inputs // form.block_size, form.block_bytes), dtype=np.uint8)
    for place in SCALE_PLACES.get(type_name, (0,)):
        scales = generator.normal(0, 0.01, (len(blocks), 1)).astype(np.float16)
        blocks[:, place : place + 2] = scales.view(np.uint8)
    return torch.from_numpy(blocks.reshape(num_rows, -1))


def packed(type_name: str, num_rows: int, num_inputs: int, seed: int = 0) -> PackedMatrix:
    return pack_matrix(stored_rows(type_name, num_rows, num_inputs, seed).numpy(), type_name, num_inputs)


def inputs(num_rows: int, num_inputs: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(num_rows, num_inputs, generator=torch.Generator().manual_seed(num_rows)).to(dtype)


def rounding_of(truth: Tensor, type_name: str) -> Tensor:
    """How far a packed weight may be from the file's."""
    if type_name in ("Q5_0", "Q8_0"):
        return torch.zeros(())
    if BLOCK_TYPES[type_name].code_bits == 4:  # half an integer of its row, and what rounded steps and starts add
        return truth.abs().amax(dim=1, keepdim=True) / 127 * (0.5001 + 16 / 512)
    largest = truth.view(len(truth), -1, 32).abs().amax(dim=2)
    return (largest / 127 * 0.6).repeat_interleave(32, dim=1)  # of a float16 scale, the largest may be beyond 127 of them


@ON_EVERY_SET
@ON_EVERY_TYPE
@pytest.mark.parametrize(("num_rows", "num_inputs"), [(16, 256), (37, 512), (5, 768)])
def test_a_packed_weight_is_the_nearest_that_can_be(
    instruction_set: InstructionSet, type_name: str, num_rows: int, num_inputs: int
):
    rows = stored_rows(type_name, num_rows, num_inputs)
    truth = dequantize(rows, type_name)
    with using(instruction_set):
        matrix = pack_matrix(rows.numpy(), type_name, num_inputs)
        weights = unpack(matrix)
        assert ((weights - truth).abs() <= rounding_of(truth, type_name)).all()
        assert integers(matrix).abs().max() <= 128
        indices = torch.tensor([num_rows - 1, 0, 3, 3])
        assert torch.equal(unpack_rows(matrix, indices, torch.float32), weights[indices])
        assert torch.equal(unpack_rows(matrix, indices, torch.bfloat16), weights[indices].bfloat16())


def test_every_set_packs_the_same_bytes():
    for type_name in BLOCK_TYPES:
        matrices = []
        for instruction_set in instruction_sets():
            with using(instruction_set):
                matrices.append(packed(type_name, 21, 256))
        for matrix in matrices[1:]:
            assert torch.equal(matrix.codes, matrices[0].codes)
            assert (matrix.scales is None) == (matrices[0].scales is None)
            if matrix.scales is not None and matrices[0].scales is not None:
                assert torch.equal(matrix.scales, matrices[0].scales)


def test_rows_can_be_packed_in_another_order_and_in_part():
    rows = stored_rows("Q4_0", 40, 256)
    order = torch.randperm(40)[:33]
    matrix = pack_matrix(rows.numpy()[:, 18 * 2 : 18 * 5], "Q4_0", 96, order)
    truth = dequantize(rows, "Q4_0")[order, 64:160]
    assert ((unpack(matrix) - truth).abs() <= rounding_of(truth, "Q4_0")).all()


def test_a_row_of_zeros_and_a_block_of_one_value_stay_what_they_are():
    weights = torch.randn(5, 64)
    weights[1] = 0
    weights[2, :32] = 0.5
    for type_name in ("Q4_0", "Q4_1", "Q8_0"):
        stored = gguf.quants.quantize(weights.numpy(), gguf.GGMLQuantizationType[type_name])
        found = unpack(pack_matrix(stored, type_name, 64))
        assert not found[1].any()
        assert found[2, :32].unique().numel() == 1


@pytest.mark.parametrize("shape", [(16, 64), (5, 33), (37, 200), (1, 1)])
def test_floating_matrices_become_integers_of_their_rows(shape: tuple[int, int]):
    weights = inputs(*shape)
    weights[0] = 0
    matrix = pack_int8(weights)
    rounding = weights.float().abs().amax(dim=1, keepdim=True) / 127 * 0.5001
    assert ((unpack(matrix) - weights.float()).abs() <= rounding).all()
    indices = torch.tensor([shape[0] - 1, 0])
    assert torch.equal(unpack_rows(matrix, indices, torch.float32), unpack(matrix)[indices])


def test_only_whole_blocks_of_quantised_types_can_be_packed():
    assert can_pack("Q4_0", range(32, 96))
    assert not can_pack("Q4_0", range(16, 80))
    assert not can_pack("Q4_K", range(576))
    assert not can_pack("BF16", range(256))


@ON_EVERY_SET
@ON_EVERY_TYPE
def test_products_are_those_of_the_reference(instruction_set: InstructionSet, type_name: str):
    for num_rows, num_outputs, num_inputs in [
        (1, 16, 256),
        (1, 37, 512),
        (2, 37, 512),
        (8, 70, 768),
        (13, 33, 256),
        (200, 50, 256),
    ]:
        matrix = packed(type_name, num_outputs, num_inputs)
        rows = inputs(num_rows, num_inputs)
        bias = torch.arange(num_outputs) * 0.01
        truth = packed_linear(rows, [matrix], bias)
        with using(instruction_set):
            found = PackedStack([matrix], bias)(rows, torch.float32)
        torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-5 * float(truth.abs().max()))


@ON_EVERY_SET
@pytest.mark.parametrize("type_name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_products_of_odd_shapes_and_types_are_those_of_the_reference(instruction_set: InstructionSet, type_name: str):
    dtypes = [torch.float32, torch.bfloat16, torch.float16]
    shapes = [(1, 1, 32), (5, 15, 96), (6, 17, 32), (7, 31, 160), (95, 33, 32), (97, 2, 96)]
    for index, (num_rows, num_outputs, num_inputs) in enumerate(shapes):
        matrix = packed(type_name, num_outputs, num_inputs)
        rows = inputs(num_rows, num_inputs, dtypes[index % 3])
        truth = packed_linear(rows, [matrix])
        with using(instruction_set):
            for dtype, tolerance in zip(dtypes, (1e-5, 1e-2, 2e-3), strict=True):
                found = PackedStack([matrix])(rows, dtype)
                assert found.dtype == dtype
                torch.testing.assert_close(found.float(), truth, rtol=tolerance, atol=tolerance * float(truth.abs().max()))


@ON_EVERY_SET
@pytest.mark.parametrize("shape", [(1, 16, 256), (3, 37, 50), (8, 70, 33), (13, 33, 1), (200, 50, 576)])
def test_bfloat16_products_are_those_of_the_reference(instruction_set: InstructionSet, shape: tuple[int, int, int]):
    num_rows, num_outputs, num_inputs = shape
    weight = inputs(num_outputs, num_inputs) * 0.1
    matrix = pack_bfloat16(weight)
    indices = torch.tensor([num_outputs - 1, 0])
    assert torch.equal(unpack(matrix), weight.float())
    assert torch.equal(unpack_rows(matrix, indices, torch.float32), weight[indices].float())
    rows = inputs(num_rows, num_inputs)
    truth = packed_linear(rows, [matrix])
    with using(instruction_set):
        found = PackedStack([matrix])(rows, torch.float32)
    torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-5 * float(truth.abs().max()))


@ON_EVERY_SET
def test_matrices_of_different_types_are_stacked(instruction_set: InstructionSet):
    matrices = [packed(name, size, 256, size) for name, size in [("Q4_K", 48), ("Q8_0", 16), ("Q6_K", 21), ("Q4_1", 100)]]
    matrices.insert(1, pack_bfloat16(inputs(35, 256) * 0.1))
    rows = inputs(7, 256, torch.float16)
    truth = packed_linear(rows, matrices)
    with using(instruction_set):
        found = PackedStack(matrices)(rows)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), truth, rtol=2e-3, atol=2e-3)


@ON_EVERY_SET
@pytest.mark.parametrize("type_name", ["Q4_1", "Q8_0", "Q6_K"])
def test_a_row_has_the_same_bits_alone_and_in_any_crowd(instruction_set: InstructionSet, type_name: str):
    stack = PackedStack([packed(type_name, 83, 512), packed("Q5_0", 40, 512), pack_bfloat16(inputs(19, 512))])
    rows = inputs(211, 512)
    with using(instruction_set):
        truth = torch.cat([stack(row.unsqueeze(0), torch.float32) for row in rows])
        for num_rows in [2, 3, 4, 5, 6, 7, 11, 12, 96, 97, 211]:
            assert torch.equal(stack(rows[:num_rows], torch.float32), truth[:num_rows]), num_rows
            assert torch.equal(stack(rows[-num_rows:], torch.float32), truth[-num_rows:]), num_rows


@ON_EVERY_SET
def test_the_number_of_threads_changes_no_bit(instruction_set: InstructionSet):
    stack = PackedStack([packed("Q4_1", 300, 512)])
    rows = inputs(50, 512)
    num_threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with using(instruction_set):
                results.append((stack(rows), stack(rows[:1])))
    finally:
        torch.set_num_threads(num_threads)
    for many, one in results[1:]:
        assert torch.equal(many, results[0][0])
        assert torch.equal(one, results[0][1])


def test_gguf_s_own_quantiser_agrees():
    weights = np.random.default_rng(3).normal(0, 0.05, (48, 256)).astype(np.float32)
    for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
        stored = gguf.quants.quantize(weights, gguf.GGMLQuantizationType[name])
        truth = torch.from_numpy(gguf.quants.dequantize(stored, gguf.GGMLQuantizationType[name]))
        found = unpack(pack_matrix(stored, name, 256))
        assert ((found - truth).abs() <= rounding_of(truth, name)).all()


@ON_EVERY_SET
@pytest.mark.parametrize("num_inputs", [32, 96, 160, 224])
@pytest.mark.parametrize("type_name", ["Q4_0", "Q4_1", "Q8_0"])
def test_a_last_block_may_be_half_full(instruction_set: InstructionSet, type_name: str, num_inputs: int):
    matrix = packed(type_name, 35, num_inputs)
    rows = inputs(9, num_inputs)
    truth = packed_linear(rows, [matrix])
    with using(instruction_set):
        stack = PackedStack([matrix])
        found = stack(rows, torch.float32)
        alone = torch.cat([stack(row.unsqueeze(0), torch.float32) for row in rows])
    torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-5 * float(truth.abs().max()))
    assert torch.equal(found, alone)


@ON_EVERY_SET
@pytest.mark.parametrize("shape", [(1, 16, 64), (1, 33, 50), (7, 70, 33), (13, 33, 1), (100, 50, 577)])
def test_int8_products_are_those_of_the_reference(instruction_set: InstructionSet, shape: tuple[int, int, int]):
    num_rows, num_outputs, num_inputs = shape
    matrix = pack_int8(inputs(num_outputs, num_inputs))
    rows = inputs(num_rows, num_inputs)
    truth = packed_linear(rows, [matrix])
    with using(instruction_set):
        found = PackedStack([matrix])(rows, torch.float32)
    torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-5 * float(truth.abs().max()))


@ON_EVERY_SET
def test_the_largest_numbers_do_not_overflow(instruction_set: InstructionSet):
    weights = torch.ones(32, 640)
    weights[1::2] = -1
    rows = torch.ones(3, 640)
    rows[1] = -1
    with using(instruction_set):
        found = PackedStack([pack_int8(weights)])(rows, torch.float32)
    torch.testing.assert_close(found, rows @ weights.T, rtol=1e-5, atol=0)


@ON_EVERY_SET
@pytest.mark.parametrize("type_name", ["Q4_1", "Q8_0"])
def test_rows_that_pass_by_in_several_rounds_have_the_same_bits(instruction_set: InstructionSet, type_name: str):
    stack = PackedStack([packed(type_name, 40, 16384)])
    rows = inputs(61, 16384)
    with using(instruction_set):
        found = stack(rows, torch.float32)
        for row in (0, 23, 24, 47, 60):
            assert torch.equal(stack(rows[row : row + 1], torch.float32)[0], found[row])
