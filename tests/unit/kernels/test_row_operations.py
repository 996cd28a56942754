"""The operations on single rows are their formulas, in every floating type, and a row never depends on its neighbours."""

from __future__ import annotations

import math

import pytest
import torch

from yeoul.kernels import operations
from yeoul.kernels.cache_write.reference import write_cache
from yeoul.kernels.linear.reference import linear
from yeoul.kernels.rotary.reference import apply_rotary

DTYPES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@pytest.mark.parametrize("dtype", DTYPES)
def test_rms_norm_is_its_formula(dtype):
    values, weight = torch.randn(5, 3, 33).to(dtype), torch.randn(33)
    wide = values.double()
    expected = wide / torch.sqrt(wide.square().mean(-1, keepdim=True) + 1e-6) * weight
    found = operations.rms_norm(values, weight, 1e-6)
    assert found.dtype == dtype
    assert torch.allclose(found.double(), expected, atol=DTYPES[dtype], rtol=DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotation_is_multiplication_of_complex_numbers(dtype):
    heads, angles = torch.randn(5, 3, 8).to(dtype), torch.randn(5, 4)
    wide = heads.double()
    turned = torch.complex(wide[..., :4], wide[..., 4:]) * torch.polar(torch.ones(5, 1, 4), angles[:, None]).to(
        torch.complex128
    )
    expected = torch.cat((turned.real, turned.imag), dim=-1)
    found = apply_rotary(heads, angles.cos(), angles.sin())
    assert found.dtype == dtype
    assert torch.allclose(found.double(), expected, atol=DTYPES[dtype], rtol=DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_gated_activations_are_those_of_torch(dtype):
    both = (torch.randn(7, 40) * 4).to(dtype)
    gate, up = both.double().chunk(2, dim=-1)
    for found, expected in [
        (operations.gate(both, "silu"), torch.nn.functional.silu(gate) * up),
        (operations.gate(both, "gelu_tanh"), torch.nn.functional.gelu(gate, approximate="tanh") * up),
    ]:
        assert found.dtype == dtype
        assert torch.allclose(found.double(), expected, atol=DTYPES[dtype], rtol=DTYPES[dtype])


def test_a_gate_far_from_zero_neither_overflows_nor_turns_to_nan():
    both = torch.tensor([[-1e4, 1e4, -200.0, 3.0, 3.0, 3.0]])
    assert operations.gate(both, "silu").tolist() == [[0.0, 3e4, 0.0]]
    assert operations.gate(both, "gelu_tanh").tolist() == [[0.0, 3e4, 0.0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_of_a_product_has_the_same_bits_whatever_the_rows_beside_it(dtype):
    rows, weight, bias = torch.randn(64, 96).to(dtype), torch.randn(50, 96).to(dtype), torch.randn(50).to(dtype)
    whole = linear(rows, weight, bias)
    for num_rows in (0, 1, 2, 3, 4, 5, 7, 11, 33):
        assert torch.equal(linear(rows[:num_rows], weight, bias), whole[:num_rows])
    expected = rows.double() @ weight.double().T + bias.double()
    assert torch.allclose(whole.double(), expected, atol=10 * DTYPES[dtype], rtol=DTYPES[dtype])


@pytest.mark.parametrize("operation", ["rms_norm", "silu", "gelu_tanh", "apply_rotary"])
def test_a_row_of_an_elementwise_operation_has_the_same_bits_whatever_the_rows_beside_it(operation):
    rows = torch.randn(37, 70)
    compute = {
        "rms_norm": lambda part: operations.rms_norm(part, torch.linspace(0.5, 2, 70), 1e-6),
        "silu": lambda part: operations.gate(part, "silu"),
        "gelu_tanh": lambda part: operations.gate(part, "gelu_tanh"),
        "apply_rotary": lambda part: apply_rotary(part.view(-1, 5, 14), part[:, :7].cos(), part[:, :7].sin()),
    }[operation]
    whole = compute(rows)
    for start in range(0, 37, 3):
        assert torch.equal(compute(rows[start : start + 1]), whole[start : start + 1])


def test_keys_and_values_go_to_their_slots_in_the_type_of_the_cache():
    cache = torch.full((2, 4, 2, 3, 5), math.nan, dtype=torch.bfloat16)
    keys, values = torch.randn(3, 2, 5), torch.randn(3, 2, 5)
    write_cache(keys, values, cache, torch.tensor([11, 0, 4]))
    for token, (block, offset) in enumerate([(3, 2), (0, 0), (1, 1)]):
        assert torch.equal(cache[0, block, :, offset], keys[token].bfloat16())
        assert torch.equal(cache[1, block, :, offset], values[token].bfloat16())
    assert int(cache.isnan().sum()) == cache.numel() - 2 * keys.numel()
