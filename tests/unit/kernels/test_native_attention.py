"""Native attention, on every instruction set of the machine, is the reference; a row's bits depend on its request alone."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.kernels.cache_layouts import laid_out
from yeoul.kernels.attention import native, reference
from yeoul.kernels.native_library import InstructionSet, instruction_sets, using

# (rows, context) of each request
BATCHES = {
    "one token": [(1, 1)],
    "decodes of mixed lengths": [(1, 1), (1, 300), (1, 17), (1, 64), (1, 65)],
    "everything": [(1, 40), (130, 200), (1, 3), (2, 2), (16, 16), (1, 129)],
    "several sections": [(1, 1500), (1, 512), (1, 513)],
    "a chunk over two sections": [(40, 1040)],
}
RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "window": {"sliding_window": 20},
    "window of one": {"sliding_window": 1},
    "window over two sections": {"sliding_window": 600},
    "softcap": {"softcap": 3.0},
    "softcap and a window of one tile": {"softcap": 3.0, "sliding_window": 64},
}
# heads, KV heads, size of a head, tokens of a block
SHAPES = [
    (9, 3, 64, 16),
    (4, 1, 6, 16),
    (2, 2, 80, 48),
    (4, 4, 80, 16),
    (5, 1, 96, 32),
    (2, 1, 128, 16),
    (4, 1, 256, 64),
    (3, 1, 2, 16),
]
TYPES = [
    (torch.bfloat16, torch.bfloat16, 3e-2),
    (torch.float16, torch.float16, 4e-3),
    (torch.float32, torch.bfloat16, 4e-5),
    (torch.float32, torch.float16, 4e-5),
    (torch.bfloat16, torch.float16, 3e-2),
    (torch.float16, torch.bfloat16, 4e-3),
]
PAIRS_OF_TYPES = [(query_type, cache_type) for query_type, cache_type, _ in TYPES]


@pytest.fixture(params=instruction_sets(), autouse=True)
def _instruction_set(request: pytest.FixtureRequest) -> Iterator[InstructionSet]:
    with using(request.param):
        yield request.param


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Case:
    """A cache of NaN but for what requests wrote into shuffled blocks, and the queries of all of them."""

    def __init__(
        self, sizes: list[tuple[int, int]], shape: tuple[int, int, int, int], query_type: Any, cache_type: Any
    ) -> None:
        num_heads, num_kv_heads, head_dim, block_size = shape
        counts = [-(-context // block_size) for _, context in sizes]
        blocks = random.Random(1).sample(range(1, sum(counts) + 1), sum(counts))
        cache = torch.full((2, sum(counts) + 1, num_kv_heads, block_size, head_dim), math.nan)
        self.tables = torch.zeros(len(sizes), max(counts), dtype=torch.int32)
        generator = torch.Generator().manual_seed(4)
        for index, (_, context) in enumerate(sizes):
            mine = torch.tensor([blocks.pop() for _ in range(counts[index])])
            self.tables[index, : len(mine)] = mine
            positions = torch.arange(context)
            written = torch.randn(2, context, num_kv_heads, head_dim, generator=generator)
            cache[:, mine[positions // block_size], :, positions % block_size] = written.transpose(0, 1)
        self.cache = cache.to(cache_type)
        self.sizes = sizes
        self.starts = torch.tensor([0, *(rows for rows, _ in sizes)]).cumsum(0).int()
        self.lengths = torch.tensor([context for _, context in sizes], dtype=torch.int32)
        self.query = torch.randn(int(self.starts[-1]), num_heads, head_dim, generator=generator).to(query_type)

    def attend(self, implementation: Any, **rule: Any) -> Tensor:
        shape = (self.starts, self.lengths, self.tables)
        cache = laid_out(self.cache) if implementation is native.paged_attention else self.cache
        found: Tensor = implementation(self.query, cache, *shape, scale=0.3, **rule)
        return found

    def attend_rows(self, request: int, first: int, count: int, **rule: Any) -> Tensor:
        """Some rows of one request, alone in a step."""
        num_rows, context = self.sizes[request]
        start = int(self.starts[request]) + first
        lengths = torch.tensor([context - num_rows + first + count], dtype=torch.int32)
        starts = torch.tensor([0, count], dtype=torch.int32)
        query, table = self.query[start : start + count], self.tables[request : request + 1]
        return native.paged_attention(query, laid_out(self.cache), starts, lengths, table, scale=0.3, **rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("batch", BATCHES)
def test_every_shape_and_type_is_the_reference(batch, rule):
    first = list(BATCHES).index(batch) + list(RULES).index(rule)  # over all batches and rules, every shape meets every type
    for index, shape in enumerate(SHAPES):
        query_type, cache_type, tolerance = TYPES[(first + index) % len(TYPES)]
        case = Case(BATCHES[batch], shape, query_type, cache_type)
        found = case.attend(native.paged_attention, **RULES[rule])
        expected = case.attend(reference.paged_attention, **RULES[rule])
        assert found.dtype == query_type
        assert torch.allclose(found.float(), expected.float(), atol=tolerance, rtol=tolerance), shape


@pytest.mark.parametrize(("query_type", "cache_type", "tolerance"), TYPES)
def test_every_pair_of_types_is_the_reference(query_type, cache_type, tolerance):
    for shape in [(9, 3, 64, 16), (3, 1, 14, 32)]:
        case = Case([(1, 70), (9, 200), (1, 600)], shape, query_type, cache_type)
        found, expected = case.attend(native.paged_attention), case.attend(reference.paged_attention)
        assert torch.allclose(found.float(), expected.float(), atol=tolerance, rtol=tolerance), shape


# Groups of 1, 7 and 60 heads (more than a tile has rows), heads that are no whole vectors, blocks of 16 to 144 tokens.
ODD_SHAPES = [(8, 8, 34, 16), (14, 2, 72, 64), (60, 1, 16, 16), (2, 1, 2, 32), (2, 2, 192, 144)]
BORDERS = [63, 64, 65, 127, 128, 129, 255, 256, 257, 512, 513, 1025]
SIZES_AT_BORDERS = {
    "decodes": [(1, context) for context in BORDERS],
    "a few decodes, whose sections are dealt out": [(1, 1025)],
    "chunks": [(47, 64), (48, 256), (49, 257), (7, 1024)],
}


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("sizes", SIZES_AT_BORDERS)
@pytest.mark.parametrize("shape", ODD_SHAPES)
def test_contexts_and_windows_at_the_borders_of_tiles_and_sections_are_the_reference(shape, sizes):
    for index, window in enumerate([0, 64, 65, 128, 257]):
        query_type, cache_type, tolerance = TYPES[index % len(TYPES)]
        case = Case(SIZES_AT_BORDERS[sizes], shape, query_type, cache_type)
        found = case.attend(native.paged_attention, sliding_window=window)
        expected = case.attend(reference.paged_attention, sliding_window=window)
        assert torch.allclose(found.float(), expected.float(), atol=tolerance, rtol=tolerance), window


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("types", PAIRS_OF_TYPES)
def test_a_row_has_the_same_bits_in_a_crowd_alone_and_in_any_chunk(rule, types):
    sizes = [(1, 700), (130, 640), (1, 3), (1, 1100), (20, 20)]
    case = Case(sizes, (9, 3, 64, 16), *types)
    together = case.attend(native.paged_attention, **RULES[rule])
    for request, (num_rows, _) in enumerate(sizes):
        for chunk in (1, 7, 50):
            for first in range(0, num_rows, max(chunk, num_rows // 7)):
                count = min(chunk, num_rows - first)
                rows = slice(int(case.starts[request]) + first, int(case.starts[request]) + first + count)
                assert torch.equal(case.attend_rows(request, first, count, **RULES[rule]), together[rows])


@pytest.mark.parametrize("types", PAIRS_OF_TYPES[:2])
@pytest.mark.parametrize("sizes", [[(1, 2000)], [(1, 900)] * 3, [(60, 600), (1, 300)]])
def test_any_number_of_threads_gives_the_same_bits(sizes, types):
    case = Case(sizes, (9, 3, 64, 16), *types)
    before = torch.get_num_threads()
    for rule in ({}, {"sliding_window": 600}):
        found = []
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            found.append(case.attend(native.paged_attention, **rule))
        assert all(torch.equal(one, found[0]) for one in found)
    torch.set_num_threads(before)


def test_queries_may_lie_between_the_keys_and_values_of_their_token():
    case = Case([(5, 40), (1, 9)], (6, 2, 32, 16), torch.bfloat16, torch.bfloat16)
    expected = case.attend(native.paged_attention)
    wide = torch.full((6, 10, 32), math.nan, dtype=torch.bfloat16)
    wide[:, :6] = case.query
    case.query = wide[:, :6]
    assert torch.equal(case.attend(native.paged_attention), expected)


def test_a_nan_stays_in_its_own_request():
    case = Case([(1, 90), (3, 70)], (4, 2, 16, 16), torch.float32, torch.bfloat16)
    clean = case.attend(native.paged_attention)
    case.query[0, 1, 3] = math.nan
    found = case.attend(native.paged_attention)
    assert found[0, 1].isnan().all()
    assert torch.equal(found[1:], clean[1:])
    assert torch.equal(found[0, [0, 2, 3]], clean[0, [0, 2, 3]])
