"""Percentiles and histograms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.cli.benchmark.distribution import distribution


def test_a_percentile_lies_between_its_neighbours():
    one, three, many = distribution([0.001]), distribution([0.003, 0.001, 0.002]), distribution(n / 1000 for n in range(101))
    assert one is not None
    assert three is not None
    assert many is not None
    assert (one.p50, one.p99) == (1.0, 1.0)
    assert (three.p50, three.p90) == (2.0, 2.8)
    assert many.every_percentile == list(map(float, range(101)))
    assert (many.p95, many.p99_9) == (95.0, 99.9)


def test_times_become_milliseconds():
    times = distribution([0.003, 0.001, 0.002])
    assert times is not None
    assert (times.count, times.mean, times.min, times.p50, times.max) == (3, 2.0, 1.0, 2.0, 3.0)
    assert times.standard_deviation == pytest.approx(0.816, abs=0.001)
    assert distribution([]) is None


@given(st.lists(st.floats(0.0, 1000.0), min_size=1, max_size=200))
def test_a_histogram_holds_every_time_between_rising_edges(seconds):
    times = distribution(seconds)
    assert times is not None
    edges = times.histogram.edges_milliseconds
    assert sum(times.histogram.counts) == len(seconds)
    assert len(edges) == len(times.histogram.counts) + 1
    assert edges == sorted(edges)
    assert edges[-1] > edges[0]
    assert times.every_percentile == sorted(times.every_percentile)


def test_far_apart_times_get_a_logarithmic_histogram():
    near, far = distribution([0.010, 0.011, 0.012]), distribution([0.010, 0.011, 1.0])
    assert near is not None
    assert far is not None
    assert (near.histogram.is_logarithmic, far.histogram.is_logarithmic) == (False, True)
