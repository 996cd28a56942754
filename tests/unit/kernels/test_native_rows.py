"""Native norms, rotation and gates, on every instruction set, are their references; a row never sees another."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from tests.unit.kernels.cache_layouts import plain
from yeoul.kernels.activation import native as gate_native
from yeoul.kernels.activation import reference as gate_reference
from yeoul.kernels.native_library import instruction_sets, using
from yeoul.kernels.rms_norm import native as norm_native
from yeoul.kernels.rms_norm import reference as norm_reference
from yeoul.kernels.rotary import native as rotary_native
from yeoul.kernels.rotary import reference as rotary_reference
from yeoul.kernels.rotary.reference import HeadNorms

DTYPES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
SIZES = [1, 7, 16, 33, 70, 576, 1000]


@pytest.fixture(params=instruction_sets(), autouse=True)
def _instruction_set(request: pytest.FixtureRequest) -> Iterator[None]:
    with using(request.param):
        yield


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert torch.allclose(found.float(), expected.float(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_are_the_reference(dtype):
    for size in SIZES:
        values, addend, weight = torch.randn(5, size).to(dtype), torch.randn(5, size).to(dtype), torch.randn(size)
        expected = norm_reference.rms_norm(values, weight, 1e-6)
        assert_close(norm_native.rms_norm(values, weight, 1e-6), expected, DTYPES[dtype])
        heads = norm_native.rms_norm(values.view(1, 5, size), weight, 1e-6)
        assert torch.equal(heads[0], norm_native.rms_norm(values, weight, 1e-6))
        stream, expected_stream = values.clone(), values.clone()
        expected = norm_reference.rms_norm(expected_stream, weight, 1e-6, addend)
        assert_close(norm_native.rms_norm(stream, weight, 1e-6, addend), expected, DTYPES[dtype])
        assert torch.equal(stream, expected_stream)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gates_are_the_reference(dtype):
    for size in SIZES:
        both = (torch.randn(4, 2 * size) * 6).to(dtype)
        for kind in gate_native.KINDS:
            assert_close(gate_native.gate(both, kind), gate_reference.gate(both, kind), DTYPES[dtype])


def test_a_gate_far_from_zero_neither_overflows_nor_turns_to_nan():
    both = torch.tensor([[-1e4, 1e4, -200.0, 3.0, 3.0, 3.0]])
    assert gate_native.gate(both, "silu").tolist() == [[0.0, 3e4, 0.0]]
    assert gate_native.gate(both, "gelu_tanh").tolist() == [[0.0, 3e4, 0.0]]


@pytest.mark.parametrize("has_norms", [False, True])
@pytest.mark.parametrize("cache_type", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rotation_and_cache_are_the_reference(dtype, cache_type, has_norms):
    for num_heads, num_kv_heads, head_dim, block_size in [
        (9, 3, 64, 16),
        (4, 1, 6, 48),
        (2, 2, 80, 32),
        (4, 1, 256, 16),
    ]:
        angles = torch.randn(11, head_dim // 2)
        norms = HeadNorms(torch.rand(head_dim) + 0.5, torch.rand(head_dim) + 0.5, 1e-6) if has_norms else None
        heads = torch.randn(11, num_heads + 2 * num_kv_heads, head_dim).to(dtype)
        slots = torch.randperm(7 * block_size)[:11]
        found_cache = torch.full((2, 7, num_kv_heads, block_size, head_dim), 9.0).to(cache_type)
        expected_cache = found_cache.clone()
        expected = rotary_reference.rotate_and_write(heads, angles.cos(), angles.sin(), expected_cache, slots, norms)
        found = rotary_native.rotate_and_write(heads, angles.cos(), angles.sin(), found_cache, slots, norms)
        tolerance = max(DTYPES[dtype], DTYPES[cache_type])
        assert_close(found, expected, tolerance)
        assert_close(plain(found_cache), expected_cache, tolerance)
        assert torch.equal(plain(found_cache) == 9.0, expected_cache == 9.0)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_row_has_the_same_bits_whatever_the_rows_beside_it(num_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    rows, weight = torch.randn(300, 576).bfloat16(), torch.randn(576)
    norms = HeadNorms(weight[:64].clone(), weight[64:128].clone(), 1e-6)

    def rotate(part: torch.Tensor) -> torch.Tensor:
        cache = torch.zeros(2, 20, 2, 16, 64, dtype=torch.bfloat16)
        angles, slots = part[:, :32].float(), torch.arange(len(part))
        query = rotary_native.rotate_and_write(part.view(-1, 9, 64).clone(), angles.cos(), angles.sin(), cache, slots, norms)
        written = plain(cache).transpose(2, 3).flatten(1, 2)[:, : len(part)].transpose(0, 1)
        return torch.cat((query.flatten(1), written.flatten(1)), dim=1)

    operations = (
        lambda part: norm_native.rms_norm(part, weight, 1e-6),
        lambda part: gate_native.gate(part, "silu"),
        lambda part: gate_native.gate(part, "gelu_tanh"),
        rotate,
    )
    for compute in operations:
        whole = compute(rows)
        for start in range(0, 300, 37):
            assert torch.equal(compute(rows[start : start + 1]), whole[start : start + 1])
    torch.set_num_threads(before)


def test_a_nan_or_an_infinity_shows_in_its_row_alone():
    rows = torch.randn(3, 64)
    rows[1, 5] = math.nan
    for found in (
        norm_native.rms_norm(rows, torch.ones(64), 1e-6),
        gate_native.gate(rows, "silu"),
        gate_native.gate(rows, "gelu_tanh"),
    ):
        assert found[1].isnan().any()
        assert found[[0, 2]].isfinite().all()
