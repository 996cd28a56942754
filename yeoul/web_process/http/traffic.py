"""Traffic: what of HTTP is counted for whoever watches the web process; knows no Prometheus. HTTP's parts write it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sized

LAG_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Traffic:
    """``statuses`` counts answers; ``connections`` are those that are open."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.connections: Sized = ()
        self.lag_counts = [0] * (len(LAG_SECONDS) + 1)
        self.total_lag_seconds = 0.0

    def note_status(self, status: int) -> None:
        """An answer begins."""
        self.statuses[status] += 1

    def note_lag(self, seconds: float) -> None:
        """The event loop came so much later than it should have to a timer."""
        self.lag_counts[bisect_left(LAG_SECONDS, seconds)] += 1
        self.total_lag_seconds += max(0.0, seconds)
