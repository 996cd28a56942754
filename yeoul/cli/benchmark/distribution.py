"""Distributions of times: percentiles and histograms; knows nothing of what was timed. Called by ``report`` and ``plot``."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import numpy as np

_MAX_NUM_BINS = 48
_MIN_NUM_BINS = 8
_LOG_FROM_RATIO = 5.0
_SMALLEST_MILLISECONDS = 0.001


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """How many times lie between neighbouring ``edges_milliseconds``, which are evenly spaced, or their logarithms are."""

    edges_milliseconds: list[float]
    counts: list[int]
    is_logarithmic: bool


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Times in milliseconds. ``every_percentile`` holds the 0th (the smallest) to the 100th, 101 values."""

    count: int
    mean: float
    standard_deviation: float
    min: float
    p50: float
    p90: float
    p95: float
    p99: float
    p99_9: float
    max: float
    every_percentile: list[float]
    histogram: Histogram


def distribution(seconds: Iterable[float]) -> Distribution | None:
    """The distribution of ``seconds``, in milliseconds rounded to microseconds; None if there are none."""
    times = np.array([*seconds]) * 1000
    if not times.size:
        return None
    *every, p99_9 = np.percentile(times, [*range(101), 99.9]).round(3).tolist()
    return Distribution(
        count=times.size,
        mean=round(float(times.mean()), 3),
        standard_deviation=round(float(times.std()), 3),
        min=every[0],
        p50=every[50],
        p90=every[90],
        p95=every[95],
        p99=every[99],
        p99_9=p99_9,
        max=every[100],
        every_percentile=every,
        histogram=_histogram(times),
    )


def _histogram(times: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Histogram:
    """Logarithmic where the largest is several times the smallest."""
    times = np.maximum(times, _SMALLEST_MILLISECONDS)
    low, high = times.min(), times.max()
    is_logarithmic = bool(high / low > _LOG_FROM_RATIO)
    if high / low < 1.01:  # all the same: a bar with room on both sides
        low, high = low * 0.95, high * 1.05
    num_bins = min(_MAX_NUM_BINS, max(_MIN_NUM_BINS, round(2 * math.sqrt(times.size))))
    edges = (np.geomspace if is_logarithmic else np.linspace)(low, high, num_bins + 1)
    counts, _ = np.histogram(times, edges)
    return Histogram(edges_milliseconds=edges.round(4).tolist(), counts=counts.tolist(), is_logarithmic=is_logarithmic)
