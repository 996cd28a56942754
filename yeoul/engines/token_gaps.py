"""TokenGaps: how many tokens came how long after the one before, since the server started; knows no request and no route.

There may be as many as tokens, so they are counted in classes: a tenth apart, and cut where ``/metrics`` counts. Whoever
wants those of a while takes the difference. ``OutputQueueLoop`` counts them.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence

# In seconds; what Prometheus is told.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)

_RATIO = 1.1
_BOUNDS = tuple(sorted({*BUCKETS, *(1e-5 * _RATIO**number for number in range(190))}))  # to ten minutes


class TokenGaps:
    """``counts`` has a number a class, the last of all that took longer."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS) + 1)
        self.total_seconds = 0.0

    def add(self, seconds: float, num_tokens: int) -> None:
        """So many tokens came so long after the one before each."""
        self.counts[bisect_left(_BOUNDS, seconds)] += num_tokens
        self.total_seconds += seconds * num_tokens

    def cumulative(self) -> list[int]:
        """How many took no longer than each of ``BUCKETS``, and how many there are."""
        running = list(itertools.accumulate(self.counts))
        return [*(running[_BOUNDS.index(bound)] for bound in BUCKETS), running[-1]]


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The middle of the class in which this share of all is reached, within a twentieth of it; None where there are none."""
    if not any(counts):
        return None
    running = list(itertools.accumulate(counts))
    place = bisect_left(running, min(running[-1], int(running[-1] * share) + 1))
    upper = _BOUNDS[min(place, len(_BOUNDS) - 1)]
    lower = _BOUNDS[place - 1] if 0 < place < len(_BOUNDS) else upper / _RATIO
    return round(math.sqrt(lower * upper), 6)
