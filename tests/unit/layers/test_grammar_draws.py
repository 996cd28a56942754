"""Drawing under a grammar: from all tokens first; where that one may not come, from those that may: the same chances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.layers.test_sampler import VOCAB_SIZE, random_logits, request
from yeoul.grammars.matcher import GrammarError, GrammarMatcher
from yeoul.layers.sampler import sample_tokens


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_whoever_cannot_follow_a_request_says_whether_the_request_is_to_blame(top_p):
    class BrokenGrammar(GrammarMatcher):
        def __init__(self, error: Exception) -> None:
            self.error = error

        def accept(self, token_ids: Any) -> None:
            pass

        def fill_mask(self, mask: Any) -> None:
            raise self.error

        def allows(self, token_id: int) -> bool:
            raise self.error

    broken = request(top_p=top_p, grammar=BrokenGrammar(IndexError("injected")))
    costly = request(top_p=top_p, grammar=BrokenGrammar(GrammarError("too many states")))
    result = sample_tokens(random_logits(3), [broken, request(), costly], [0, 0, 0])
    assert {row: fault.status for row, fault in result.faults.items()} == {0: 500, 2: 400}
    assert result.faults[2].message == "the grammar cannot be followed any further: too many states"


class SomeTokens(GrammarMatcher):
    """A grammar that always allows the same tokens, and counts how often they are all asked for."""

    is_complete = False

    def __init__(self, allowed: list[int]) -> None:
        self.allowed, self.num_masks = allowed, 0

    def accept(self, token_ids: Any) -> None:
        assert set(token_ids) <= set(self.allowed)

    def allows(self, token_id: int) -> bool:
        return token_id in self.allowed

    def fill_mask(self, mask: Any) -> None:
        self.num_masks += 1
        bits = np.zeros(32 * len(mask), dtype=np.uint8)
        bits[self.allowed] = 1
        mask[:] = np.packbits(bits, bitorder="little").view(np.int32)


def test_draws_under_a_grammar_follow_the_distribution_of_what_it_allows():
    logits = random_logits(1, 12, scale=1.0)
    num_draws, allowed = 20_000, [0, 3, 4, 7, 10]
    grammar = SomeTokens(allowed)
    sampling = request(temperature=1.5, seed=9, vocab_size=12, grammar=grammar)
    drawn = sample_tokens(logits.repeat(num_draws, 1), [sampling] * num_draws, range(num_draws)).token_ids
    expected = torch.softmax(logits[0, allowed] / 1.5, dim=-1).numpy() * num_draws
    found = np.bincount(drawn, minlength=12)
    assert found.sum() == found[allowed].sum()
    assert ((found[allowed] - expected) ** 2 / expected).sum() < 23.5  # 4 degrees of freedom: a chance of about 1 in 10,000
    share = float(torch.softmax(logits[0] / 1.5, dim=-1)[allowed].sum())
    assert grammar.num_masks == pytest.approx((1 - share) * num_draws, rel=0.05)


@pytest.mark.parametrize(
    "params", [{"temperature": 0}, {"top_p": 0.8}, {"top_k": 20}, {"min_p": 0.1}, {"top_p": 0.9, "top_k": 5}]
)
def test_filters_and_the_likeliest_token_are_of_what_the_grammar_allows(params):
    logits, allowed = random_logits(40), list(range(1, VOCAB_SIZE, 3))
    left = torch.full_like(logits, -torch.inf)
    left[:, allowed] = logits[:, allowed]
    expected = sample_tokens(left, [request(**params)] * 40, range(40)).token_ids
    assert sample_tokens(logits, [request(**params, grammar=SomeTokens(allowed))] * 40, range(40)).token_ids == expected


def test_a_forced_token_is_not_asked_of_the_grammar():
    sampling = request(forced_token_ids=[5], grammar=SomeTokens([6]))
    assert sample_tokens(random_logits(1), [sampling], [0]).token_ids == [5]
    assert sample_tokens(random_logits(1), [sampling], [1]).token_ids == [6]


def test_what_is_drawn_under_a_grammar_depends_on_nobody_else():
    logits = random_logits(32)
    requests = [
        request(seed=row, grammar=SomeTokens(list(range(row, VOCAB_SIZE, row % 5 + 1))) if row % 2 else None, logprobs=1)
        for row in range(32)
    ]
    together = sample_tokens(logits, requests, range(32))
    for row in range(32):
        alone = sample_tokens(logits[row : row + 1], [requests[row]], [row])
        assert alone.token_ids == together.token_ids[row : row + 1]
        assert alone.logprobs[0] == together.logprobs[row]
