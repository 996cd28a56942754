"""A thought ends where its budget says, wherever its answer is computed again, and what is no thought is left alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yeoul.layers.thinking_limit import ThinkingLimit
from yeoul.messages.sampling import ThinkingBudget

BEGIN, END, CALL = [1, 2], [3, 4, 3, 5], [6]


def budget(num_tokens: int, *, is_open: bool = True, begin: list[int] = BEGIN) -> ThinkingBudget:
    return ThinkingBudget(num_tokens, begin, [END, CALL], is_open)


def answer(limits: ThinkingBudget, wanted: list[int]) -> list[int]:
    """What comes of the tokens that a model would like to write."""
    limit, made = ThinkingLimit(limits), []
    for token_id in wanted:
        made.append(token_id if (forced := limit.forced()) is None else forced)
        limit.note(made[-1])
    return made


@pytest.mark.parametrize(
    ("limits", "wanted", "made"),
    [
        (budget(3), [9] * 9, [9, 9, 9, *END, 9, 9]),
        (budget(0), [9] * 6, [*END, 9, 9]),
        (budget(9), [9, *END, 9, 9, 9, 9, 9, 9], [9, *END, 9, 9, 9, 9, 9, 9]),
        (budget(2), [9, *CALL, 9, 9, 9, 9, 9], [9, *CALL, 9, 9, 9, 9, 9]),
        (budget(2, is_open=False), [*BEGIN, 9, 9, 9, 9, 9, 9, 9], [*BEGIN, 9, 9, *END, 9]),
        (budget(2, is_open=False), [8, *BEGIN, 9, 9, 9, 9, 9, 9], [8, *BEGIN, 9, 9, *END]),
        (budget(2, is_open=False), [9] * 8 + [*BEGIN, 9, 9, 9, 9], [9] * 8 + [*BEGIN, 9, 9, 9, 9]),
        (budget(3), [9, 3, 4, 9, 9, 9, 9], [9, 3, 4, 3, 5, 9, 9]),
        (budget(4), [9, 3, 4, 3, 4, 9, 9, 9], [9, 3, 4, 3, 5, 9, 9, 9]),
        (budget(5), [9, 3, 4, 3, 4, 9, 9, 9], [9, 3, 4, 3, 4, 3, 5, 9]),
        (budget(3), [*END, *BEGIN, 9, 9, 9, 9, 9], [*END, *BEGIN, 9, 9, 9, 9, 9]),
    ],
)
def test_a_thought_ends_at_its_budget_or_by_itself(limits, wanted, made):
    assert answer(limits, wanted) == made


@given(st.integers(0, 12), st.booleans(), st.integers(0, 40), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_an_answer_goes_on_the_same_from_every_place(num_tokens: int, is_open: bool, cut: int, numbers: random.Random):
    limits = budget(num_tokens, is_open=is_open)
    wanted = [numbers.choice([1, 2, 3, 4, 5, 6, 9]) for _ in range(40)]
    made = answer(limits, wanted)
    again = ThinkingLimit(limits, made[:cut])
    for token_id, seen in zip(wanted[cut:], made[cut:], strict=True):
        assert (again.forced() or token_id) == seen
        again.note(seen)
