"""A NaN or an infinity in a row shows in all that is made of this row, and in nothing else, on every instruction set.

So it comes through to the logits, whose highest is then no finite number, and the request fails.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.unit.kernels.test_packed_linear import packed
from yeoul.kernels import operations
from yeoul.kernels.activation import native as gate_native
from yeoul.kernels.native_library import instruction_sets, using
from yeoul.kernels.pack_matrix.native import pack_bfloat16, pack_int8
from yeoul.kernels.pack_matrix.packed_matrix import BLOCK_TYPES
from yeoul.kernels.packed_linear.native import PackedStack
from yeoul.kernels.rms_norm import native as norm_native
from yeoul.kernels.rms_norm import reference as norm_reference
from yeoul.kernels.sampling import native as sampling_native
from yeoul.kernels.sampling.sampling_rows import SAMPLING_ROW

STRANGE = {"NaN": math.nan, "-NaN": -math.nan, "infinity": math.inf, "-infinity": -math.inf}
SIZES = [33, 576, 1536]
NUM_ROWS, BAD_ROW = 5, 2


@pytest.fixture(params=instruction_sets(), autouse=True)
def _instruction_set(request: pytest.FixtureRequest) -> Iterator[None]:
    with using(request.param):
        yield


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(shape[-1]))


def spoiled(rows: Tensor, place: int, number: float) -> Tensor:
    bad = rows.clone()
    bad[BAD_ROW, place] = number
    return bad


def spoiled_everywhere(size: int, number: float) -> Tensor:
    """Twice as many rows as places: each place is strange in a row of its own, and whole rows lie between them."""
    rows = numbers(2 * size, size)
    rows[2 * torch.arange(size), torch.arange(size)] = number
    return rows


@pytest.mark.parametrize("number", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", SIZES)
def test_products_at_every_place_of_a_row(size, dtype, number):
    """Integers of 8 bits with and without scales in their blocks, 4 bits, bfloat16; many rows and few."""
    weights, rows = numbers(19, size), spoiled_everywhere(size, number).to(dtype)
    matrices = [pack_int8(weights), pack_bfloat16(weights.bfloat16())]
    matrices += [packed(name, 19, size) for name in ("Q4_1", "Q8_0")] if size % 32 == 0 else []
    for matrix in matrices:
        product = PackedStack([matrix])
        found = product(rows, torch.float32)
        assert not found[::2].isfinite().any()
        assert torch.equal(found[1::2], product(rows[1::2], torch.float32))
        for first in range(0, 2 * size, max(2, size // 8)):
            few = product(rows[first : first + 3], torch.float32)
            assert torch.equal(few.isfinite(), found[first : first + 3].isfinite())


@pytest.mark.parametrize("number", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("type_name", BLOCK_TYPES)
def test_products_of_every_type(type_name, number):
    rows, product = numbers(NUM_ROWS, 768).bfloat16(), PackedStack([packed(type_name, 48, 768)])
    for place in (0, 31, 500, 767):
        assert not product(spoiled(rows, place, number), torch.float32)[BAD_ROW].isfinite().any()


@pytest.mark.parametrize("number", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("size", SIZES)
def test_norms_and_gates(size, number):
    rows, weight = spoiled_everywhere(size, number), torch.ones(size)
    clean, places = numbers(2 * size, size), torch.arange(size)
    for operation in (
        lambda part: norm_native.rms_norm(part, weight, 1e-6),
        lambda part: norm_native.rms_norm(part.clone(), weight, 1e-6, torch.zeros_like(part)),
        lambda part: gate_native.gate(torch.cat((part, clean[: len(part)]), dim=1), "silu"),
        lambda part: gate_native.gate(torch.cat((clean[: len(part)], part), dim=1), "gelu_tanh"),
    ):
        found = operation(rows)
        assert not found[2 * places, places].isfinite().any()
        assert torch.equal(found[1::2], operation(clean)[1::2])


@pytest.mark.parametrize("norm", [norm_native.rms_norm, norm_reference.rms_norm])
def test_a_row_whose_squares_have_no_finite_sum_has_no_norm(norm):
    rows = numbers(NUM_ROWS, 100)
    rows[BAD_ROW] *= 1e25
    found = norm(rows, torch.ones(100), 1e-6)
    assert found[BAD_ROW].isnan().all()
    assert found[BAD_ROW + 1 :].isfinite().all()


@pytest.mark.parametrize("number", [math.nan, -math.nan, math.inf])
@pytest.mark.parametrize("size", SIZES)
def test_the_choice_of_a_token(size, number):
    rows = np.zeros(2 * size, dtype=SAMPLING_ROW)
    rows["top_p"], rows["temperature"] = 1.0, np.arange(2 * size) % 3
    _, highest = sampling_native.sample(spoiled_everywhere(size, number), rows)
    assert not highest[::2].isfinite().any()
    assert highest[1::2].isfinite().all()


@pytest.mark.parametrize("number", [math.nan, -math.nan, math.inf])
@pytest.mark.parametrize("rule", [{}, {"softcap": 3.0}, {"sliding_window": 40}])
@pytest.mark.parametrize("what", ["query", "key", "value"])
@pytest.mark.parametrize("head_dim", [6, 64])
def test_attention(head_dim, what, rule, number):
    """Two decodes and a chunk; the strange number is at the last position of the first or of the last."""
    lengths, starts = [600, 70, 130], [0, 1, 2, 22]
    tables = torch.arange(3 * 38, dtype=torch.int32).view(3, 38)
    shape = (torch.tensor(starts, dtype=torch.int32), torch.tensor(lengths, dtype=torch.int32), tables)

    def write(cache: Tensor, slots: Tensor, heads: Tensor) -> None:
        angles = torch.zeros(len(slots), head_dim // 2)
        operations.rotate_and_write(heads.bfloat16(), angles.cos(), angles.sin(), cache, slots)

    cache = torch.zeros(2, 3 * 38, 1, 16, head_dim, dtype=torch.bfloat16)
    write(cache, torch.arange(3 * 38 * 16), numbers(3 * 38 * 16, 3, head_dim))
    query = numbers(22, 2, head_dim).bfloat16()
    whole = operations.paged_attention(query, cache, *shape, scale=0.3, **rule)
    for request, row in ((0, 0), (2, 21)):
        for place in (0, head_dim - 1):
            bad_query, bad_cache = query.clone(), cache.clone()
            bad_query[row, :, place] = number if what == "query" else 1.0  # so that an infinite key weighs, and not nothing
            if what != "query":
                heads = torch.ones(1, 3, head_dim)
                heads[0, 1 if what == "key" else 2, place] = number
                write(bad_cache, torch.tensor([request * 38 * 16 + lengths[request] - 1]), heads)
            found = operations.paged_attention(bad_query, bad_cache, *shape, scale=0.3, **rule)
            assert not found[row].isfinite().all(dim=1).any()
            for other in {0, 1, 2} - {request}:
                rows = slice(starts[other], starts[other + 1])
                assert torch.equal(found[rows], whole[rows])
