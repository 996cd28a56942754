"""Paged attention is the plain formula on one list of shapes; for the native one see ``test_native_attention.py``."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from yeoul.kernels import operations
from yeoul.kernels.attention import reference

# (rows, context) of each request
BATCHES = {
    "one token": [(1, 1)],
    "one prompt": [(9, 9)],
    "decodes of mixed lengths": [(1, 1), (1, 300), (1, 17), (1, 16)],
    "a chunk after a prefix": [(5, 140)],
    "a long prompt": [(290, 290)],
    "everything": [(1, 40), (130, 200), (1, 3), (2, 2), (16, 16), (1, 129)],
}
RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "window": {"sliding_window": 20},
    "window of one": {"sliding_window": 1},
    "window beyond the context": {"sliding_window": 5000},
    "softcap": {"softcap": 3.0},
}
HEADS = [(1, 1, 8), (6, 2, 16), (9, 3, 64), (4, 1, 4)]


def _batch(sizes: list[tuple[int, int]], num_kv_heads: int, head_dim: int, block_size: int):
    """A cache of NaN but for what was written, shuffled blocks, and each request's own keys and values."""
    torch.manual_seed(2)
    counts = [-(-context // block_size) for _, context in sizes]
    blocks = random.Random(1).sample(range(1, sum(counts) + 1), sum(counts))
    cache = torch.full((2, sum(counts) + 1, num_kv_heads, block_size, head_dim), math.nan)
    tables = torch.zeros(len(sizes), max(counts), dtype=torch.int32)
    known = []
    for index, (_, context) in enumerate(sizes):
        mine = [blocks.pop() for _ in range(counts[index])]
        tables[index, : len(mine)] = torch.tensor(mine)
        keys_and_values = torch.randn(2, context, num_kv_heads, head_dim)
        for position in range(context):
            cache[:, mine[position // block_size], :, position % block_size] = keys_and_values[:, position]
        known.append(keys_and_values)
    starts = torch.tensor([0, *(rows for rows, _ in sizes)]).cumsum(0).int()
    lengths = torch.tensor([context for _, context in sizes], dtype=torch.int32)
    return cache, starts, lengths, tables, known


def _formula(query: Tensor, keys: Tensor, values: Tensor, scale: float, rule: dict[str, Any]) -> Tensor:
    """One request in float64: query [rows, heads, dim], keys and values [context, kv_heads, dim]."""
    context, group = keys.shape[0], query.shape[1] // keys.shape[1]
    keys, values = (part.double().repeat_interleave(group, dim=1) for part in (keys, values))
    scores = torch.einsum("qhd,khd->hqk", query.double(), keys) * scale
    if "softcap" in rule:
        scores = rule["softcap"] * torch.tanh(scores / rule["softcap"])
    behind = torch.arange(context - query.shape[0], context)[:, None] - torch.arange(context)[None, :]
    hidden = (behind < 0) | (behind >= rule.get("sliding_window", context))
    weights = scores.masked_fill(hidden, -math.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, values).float()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("batch", BATCHES)
def test_every_row_is_the_formula_over_its_own_request(batch, rule):
    for num_heads, num_kv_heads, head_dim in HEADS:
        sizes = BATCHES[batch]
        cache, starts, lengths, tables, known = _batch(sizes, num_kv_heads, head_dim, block_size=16)
        query = torch.randn(sum(rows for rows, _ in sizes), num_heads, head_dim)
        found = operations.paged_attention(query, cache, starts, lengths, tables, scale=0.3, **RULES[rule])
        for index, (keys, values) in enumerate(known):
            rows = slice(int(starts[index]), int(starts[index + 1]))
            expected = _formula(query[rows], keys, values, 0.3, RULES[rule])
            assert torch.allclose(found[rows], expected, atol=1e-5, rtol=1e-5)


def test_a_cache_in_bfloat16_is_read_as_what_it_holds():
    cache, starts, lengths, tables, _ = _batch([(1, 40), (6, 30)], 2, 16, block_size=8)
    query = torch.randn(7, 4, 16)
    narrow = cache.bfloat16()
    found = reference.paged_attention(query, narrow, starts, lengths, tables, scale=0.2)
    assert torch.equal(found, reference.paged_attention(query, narrow.float(), starts, lengths, tables, scale=0.2))


def test_many_decodes_are_gathered_in_bounded_groups_with_the_same_bits(monkeypatch):
    sizes = [(1, length) for length in (300, 2, 150, 40, 299, 7)]
    cache, starts, lengths, tables, _ = _batch(sizes, 2, 16, block_size=16)
    query = torch.randn(6, 4, 16)
    together = operations.paged_attention(query, cache, starts, lengths, tables, scale=0.2)
    monkeypatch.setattr(reference, "GATHER_LIMIT_ELEMENTS", 2 * 16 * 320)
    assert torch.equal(operations.paged_attention(query, cache, starts, lengths, tables, scale=0.2), together)
