"""Rates: how fast counters grow between two looks at them; knows nothing of what they count."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

_SHORTEST_SECONDS = 0.25  # between two looks: the kernel counts a thread's time in hundredths of a second


class _Look(NamedTuple):
    clock: float
    value: float
    rate: float | None


class Rates:
    """Remembers each counter's last value. ``begin`` and ``end`` stand around a look at all; who is not seen is forgotten."""

    def __init__(self) -> None:
        self._before: dict[Hashable, _Look] = {}
        self._now: dict[Hashable, _Look] = {}

    def begin(self) -> None:
        """A look at all counters."""
        self._now = {}

    def end(self) -> None:
        """That was all of them."""
        self._before = self._now

    def rate_of(self, counter: Hashable, clock: float, value: float) -> float | None:
        """A second's growth since the last look; None at the first. ``clock`` is in seconds, of the same clock each time.

        A look that follows too soon tells again what the last one told.
        """
        last = self._before.get(counter)
        if last is None:
            look = _Look(clock, value, None)
        elif clock - last.clock < _SHORTEST_SECONDS:
            look = last
        else:
            look = _Look(clock, value, max(0.0, value - last.value) / (clock - last.clock))
        self._now[counter] = look
        return look.rate
