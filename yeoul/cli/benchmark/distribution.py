"""Distributions of times: percentiles and histograms; knows nothing of what was timed. Called by ``report`` and ``plot``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

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


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of ``ordered`` lies, between neighbours linearly; ``ordered`` is not empty."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def distribution(seconds: Iterable[float]) -> Distribution | None:
    """The distribution of ``seconds``, in milliseconds rounded to microseconds; None if there are none."""
    ordered = sorted(value * 1000 for value in seconds)
    if not ordered:
        return None
    mean = math.fsum(ordered) / len(ordered)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in ordered) / len(ordered))
    return Distribution(
        count=len(ordered),
        mean=round(mean, 3),
        standard_deviation=round(deviation, 3),
        min=round(ordered[0], 3),
        p50=round(percentile(ordered, 0.50), 3),
        p90=round(percentile(ordered, 0.90), 3),
        p95=round(percentile(ordered, 0.95), 3),
        p99=round(percentile(ordered, 0.99), 3),
        p99_9=round(percentile(ordered, 0.999), 3),
        max=round(ordered[-1], 3),
        every_percentile=[round(percentile(ordered, hundredth / 100), 3) for hundredth in range(101)],
        histogram=histogram(ordered),
    )


def histogram(ordered: Sequence[float]) -> Histogram:
    """The histogram of ``ordered``, which is not empty; logarithmic where the largest is several times the smallest."""
    low, high = max(ordered[0], _SMALLEST_MILLISECONDS), max(ordered[-1], _SMALLEST_MILLISECONDS)
    is_logarithmic = high / low > _LOG_FROM_RATIO
    if high / low < 1.01:  # all the same: a bar with room on both sides
        low, high = low * 0.95, high * 1.05
    num_bins = min(_MAX_NUM_BINS, max(_MIN_NUM_BINS, round(2 * math.sqrt(len(ordered)))))
    start, end = (math.log(low), math.log(high)) if is_logarithmic else (low, high)
    counts = [0] * num_bins
    for value in ordered:
        place = math.log(max(value, low)) if is_logarithmic else value
        counts[min(max(int((place - start) / (end - start) * num_bins), 0), num_bins - 1)] += 1
    edges = [start + (end - start) * place / num_bins for place in range(num_bins + 1)]
    return Histogram(
        edges_milliseconds=[round(math.exp(edge) if is_logarithmic else edge, 4) for edge in edges],
        counts=counts,
        is_logarithmic=is_logarithmic,
    )
