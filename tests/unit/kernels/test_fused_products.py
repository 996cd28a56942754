"""A product that makes its own rows, by the norm or gate before it, has the bits of one after the other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.unit.kernels.test_packed_linear import packed
from yeoul.kernels import operations
from yeoul.kernels.activation.native import KINDS, gate
from yeoul.kernels.linear.matrix_stack import MatrixStack
from yeoul.kernels.native_library import instruction_sets, using
from yeoul.kernels.native_operations import record
from yeoul.kernels.pack_matrix.native import pack_bfloat16
from yeoul.kernels.packed_linear.native import PackedStack
from yeoul.kernels.rms_norm.native import rms_norm

MAX_ROWS = 40
NUM_ROWS = (1, 2, 6, 8, 9, 13, 40)
ON_EVERY_SET = pytest.mark.parametrize("instruction_set", instruction_sets())


def numbers(num_rows: int, size: int, seed: int) -> Tensor:
    return torch.randn(num_rows, size, generator=torch.Generator().manual_seed(seed)).bfloat16()


def stack(size: int) -> PackedStack:
    """Two thirds of it integers, the rest bfloat16, where a whole block of a file fits."""
    dense = pack_bfloat16(numbers(16, size, 3))
    return PackedStack([packed("Q4_0", 32, size), dense] if size % 32 == 0 else [dense])


@pytest.fixture
def num_threads(request: pytest.FixtureRequest):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@ON_EVERY_SET
@pytest.mark.parametrize("num_threads", [1, 2], indirect=True)
@pytest.mark.parametrize("size", [33, 576, 1120])
@pytest.mark.parametrize("adds", [False, True])
def test_a_norm_before_a_product(instruction_set, num_threads, size, adds):
    weight, product = torch.randn(size, generator=torch.Generator().manual_seed(1)), stack(size)
    given, addend = numbers(MAX_ROWS, size, 1), numbers(MAX_ROWS, size, 2)

    def fused(values: Tensor, others: Tensor) -> Tensor:
        return product.after_norm(values, others if adds else None, weight, 1e-5)

    def one_after_the_other(values: Tensor, others: Tensor) -> Tensor:
        return product(rms_norm(values, weight, 1e-5, others if adds else None))

    with using(instruction_set):
        stream = given.clone()
        with record() as recording:
            output = fused(stream[:1], addend[:1])
        where = recording.finish(output, MAX_ROWS)
        assert len(recording) == 1
        for num_rows in NUM_ROWS:
            stream.copy_(given)
            recording.run(num_rows)
            alone, at_once = given.clone(), given.clone()
            expected = one_after_the_other(alone[:num_rows], addend[:num_rows])
            assert torch.equal(where[:num_rows], expected)
            assert torch.equal(fused(at_once[:num_rows], addend[:num_rows]), expected)
            assert torch.equal(stream, alone)
            assert torch.equal(at_once, alone)


@ON_EVERY_SET
@pytest.mark.parametrize("num_threads", [1, 2], indirect=True)
@pytest.mark.parametrize("size", [33, 576, 1120])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gate_before_a_product(instruction_set, num_threads, size, kind):
    product, both = stack(size), numbers(MAX_ROWS, 2 * size, 1)
    with using(instruction_set):
        with record() as recording:
            output = product.after_gate(both[:1], kind)
        where = recording.finish(output, MAX_ROWS)
        assert len(recording) == 1
        for num_rows in NUM_ROWS:
            recording.run(num_rows)
            expected = product(gate(both[:num_rows], kind))
            assert torch.equal(where[:num_rows], expected)
            assert torch.equal(product.after_gate(both[:num_rows], kind), expected)


def test_rows_that_another_operation_made_are_read():
    product, values, weight = stack(64), numbers(4, 64, 1), torch.ones(64)
    with record() as recording:
        first = rms_norm(values[:1], weight, 1e-5)
        rms_norm(first, weight, 1e-5)
        output = product(first)
    where = recording.finish(output, 4)
    assert len(recording) == 3
    recording.run(4)
    assert torch.equal(where, product(rms_norm(values, weight, 1e-5)))


@pytest.mark.parametrize("dense", [[0], [1], [0, 1], []])
def test_stacks_of_any_kind_compute_the_same(dense):
    """A stack of packed matrices computes norm and product at once; where a part is dense, one comes after the other."""
    weights = [numbers(16, 64, seed) for seed in (1, 2)]
    parts = [weight if index in dense else pack_bfloat16(weight) for index, weight in enumerate(weights)]
    mixed, values, scale = MatrixStack(parts), numbers(5, 64, 3), torch.rand(64)
    expected = (rms_norm(values, scale, 1e-5).float() @ torch.cat(weights).float().T).bfloat16()
    found = operations.norm_linear(mixed, values.clone(), None, scale, 1e-5)
    assert torch.allclose(found.float(), expected.float(), atol=0.1, rtol=0.02)
    both = numbers(5, 128, 4)
    for kind in KINDS:
        expected = (gate(both, kind).float() @ torch.cat(weights).float().T).bfloat16()
        found = operations.gated_linear(mixed, both, kind)
        assert torch.allclose(found.float(), expected.float(), atol=0.1, rtol=0.02)
