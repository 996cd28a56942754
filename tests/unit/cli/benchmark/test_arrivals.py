"""When requests of an open load are due."""

import itertools
import statistics

import pytest

from yeoul.cli.benchmark.clients import arrival_seconds


def gaps(burstiness):
    times = arrival_seconds(20_000, request_rate=50.0, burstiness=burstiness, seed=1)
    return [later - earlier for earlier, later in itertools.pairwise(times)]


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_the_rate_is_what_was_asked_for_and_the_spread_follows_burstiness(burstiness):
    found = gaps(burstiness)
    assert statistics.fmean(found) == pytest.approx(0.02, rel=0.05)
    assert statistics.stdev(found) == pytest.approx(0.02 / burstiness**0.5, rel=0.05)


def test_the_first_is_due_at_once_and_none_before_its_predecessor():
    times = arrival_seconds(100, 10.0, 1.0, seed=3)
    assert times[0] == 0.0
    assert times == sorted(times)
    assert len(times) == 100


def test_the_same_seed_gives_the_same_times():
    assert (
        arrival_seconds(9, 10.0, 1.0, seed=3)
        == arrival_seconds(9, 10.0, 1.0, seed=3)
        != arrival_seconds(9, 10.0, 1.0, seed=4)
    )


def test_at_an_infinite_rate_all_are_due_at_once():
    assert arrival_seconds(3, float("inf"), 1.0, seed=3) == [0.0, 0.0, 0.0]
