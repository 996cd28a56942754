"""How long a step may take is learnt from the longest of its size, not from what it should take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from yeoul.scheduler.plan import StepPlan
from yeoul.scheduler.step_patience import StepPatience


def plan_of(num_tokens: int, num_keys: int = 0) -> StepPlan:
    plan = StepPlan(0, 100)
    plan.num_tokens, plan.num_keys = num_tokens, num_keys
    return plan


def test_nothing_is_known_before_a_step_was_measured():
    patience = StepPatience()
    patience.note(plan_of(4), 0.0)
    assert patience.longest(plan_of(4)) is None


def test_the_longest_of_the_last_steps_counts_and_is_forgotten_in_the_end():
    patience = StepPatience()
    patience.note(plan_of(32), 9.0)
    for _ in range(31):
        patience.note(plan_of(40), 0.1)
    assert patience.longest(plan_of(63)) == 9.0
    patience.note(plan_of(40), 0.1)
    assert patience.longest(plan_of(63)) == 0.1


def test_a_small_step_is_held_against_small_ones_however_long_large_ones_take():
    patience = StepPatience()
    patience.note(plan_of(1), 0.02)
    patience.note(plan_of(2000), 20.0)
    assert patience.longest(plan_of(1)) == 0.02
    assert patience.longest(plan_of(2)) == 20.0


def test_a_context_counts_as_well_as_tokens():
    patience = StepPatience()
    patience.note(plan_of(1, 10), 0.02)
    assert (patience.longest(plan_of(1, 100_000)) or 0) >= 0.02 * 98


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**9), st.floats(1e-3, 100)), min_size=1, max_size=40))
def test_where_time_grows_no_faster_than_size_no_step_is_longer_than_was_foreseen(steps):
    """Powers of two tell sizes apart, so what is foreseen may be half of what a step of that size takes, and no less."""
    patience = StepPatience()
    for num_tokens, num_keys, _ in steps:
        plan = plan_of(num_tokens, num_keys)
        foreseen = patience.longest(plan)
        seconds = 1e-3 * (num_tokens + num_keys // 1024)
        assert foreseen is None or 2 * foreseen >= seconds
        patience.note(plan, seconds)
