"""The laws of the fit: it finds what is linear, in any unit, follows what changes, and believes nothing that cannot be."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.scheduler.recursive_fit import RecursiveFit

COSTS = st.tuples(*[st.floats(1e-4, 10.0)] * 4)
LARGEST = (1.0, 9.0, 9.0, 9.0)
INPUTS = st.tuples(st.just(1.0), st.integers(0, 64), st.integers(0, 500), st.floats(0, 300))


def value_of(costs, inputs):
    return sum(cost * number for cost, number in zip(costs, inputs, strict=True))


def varied(seed: int, num_observations: int) -> list[tuple[float, ...]]:
    draw = random.Random(seed)
    return [(1.0, draw.randint(0, 9), draw.randint(0, 9), draw.uniform(0, 9)) for _ in range(num_observations)]


def taught(observations, costs, fit: RecursiveFit | None = None) -> RecursiveFit:
    fit = fit or RecursiveFit(4)
    for inputs in observations:
        fit.learn(inputs, value_of(costs, inputs))
    return fit


@given(COSTS, st.integers(0, 1000))
def test_what_is_linear_is_found(costs, seed):
    fit = taught(varied(seed, 100), costs)
    for inputs in varied(seed + 1, 5):
        assert fit.predict(inputs) == pytest.approx(value_of(costs, inputs), abs=0.01 * value_of(costs, LARGEST))


@given(COSTS, COSTS, st.integers(0, 1000))
def test_what_has_changed_is_followed(before, after, seed):
    """Most of the time: a few observations that do not tell two costs apart bring back some of what was believed before."""
    fit, errors = taught(varied(seed, 40), before), []
    for inputs in varied(seed + 1, 150):
        errors.append(abs(fit.predict(inputs) - value_of(after, inputs)) / value_of(after, LARGEST))
        fit.learn(inputs, value_of(after, inputs))
    assert statistics.median(errors[50:]) < 0.01


@given(COSTS, st.integers(0, 1000), st.integers(-20, 20))
def test_the_unit_of_time_does_not_matter(costs, seed, exponent):
    unit = 2.0**exponent
    observations = varied(seed, 30)
    fit, scaled = taught(observations, costs), taught(observations, [unit * cost for cost in costs])
    for inputs in varied(seed + 1, 5):
        assert scaled.predict(inputs) == pytest.approx(unit * fit.predict(inputs), rel=1e-6)


@given(st.lists(st.tuples(INPUTS, st.floats(0, 1e3)), max_size=40), INPUTS, INPUTS)
def test_no_cost_is_negative_whatever_is_observed_so_more_never_takes_less(observations, inputs, more):
    fit = RecursiveFit(4)
    for known, value in observations:
        fit.learn(known, value)
        assert all(0 <= cost < float("inf") for cost in fit.costs)
    larger = [one + other for one, other in zip(inputs, more, strict=True)]
    assert fit.predict(larger) >= fit.predict(inputs)


@given(st.integers(1, 3000))
def test_steps_of_one_kind_take_away_nothing_of_what_is_known_of_another(num_steps):
    fit = taught([(0.01, 0, 1.0, 0.01)] * 3, (5.0, 2.0, 1.0, 0.1))
    before = fit.predict((0, 0, 1.0, 0))
    taught([(0.1, 0.9, 0, 0)] * num_steps, (5.0, 2.0, 1.0, 0.1), fit)
    assert fit.predict((0, 0, 1.0, 0)) == pytest.approx(before, rel=0.05)
    assert fit.predict((0.1, 0.9, 0, 0)) == pytest.approx(2.3, rel=0.01)


@pytest.mark.parametrize("factor", [10.0, 1000.0])
def test_an_accident_counts_no_more_than_three_times_what_was_expected(factor):
    inputs = (0.1, 0.9, 0.0, 0.0)
    fit = taught([inputs] * 20, (5.0, 2.0, 1.0, 0.1))
    before = fit.predict(inputs)
    fit.learn(inputs, factor * before)
    assert before <= fit.predict(inputs) <= 2 * before
