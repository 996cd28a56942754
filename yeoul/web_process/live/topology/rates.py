"""Rates: how fast counters grow between two looks at them; knows nothing of what they count."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

_SHORTEST_SECONDS = 0.25  # between two looks: the kernel counts a thread's time in hundredths of a second


class _Look(NamedTuple):
    clock: float
    values: dict[Any, float]
    rates: dict[Any, float | None]


class Rates:
    """Remembers the last values of counters that are read together. ``begin`` and ``end`` stand around a look at all of them;
    what is not seen is forgotten."""

    def __init__(self) -> None:
        self._before: dict[Hashable, _Look] = {}
        self._now: dict[Hashable, _Look] = {}

    def begin(self) -> None:
        """A look at all counters."""
        self._now = {}

    def end(self) -> None:
        """That was all of them."""
        self._before = self._now

    def rates_of(self, owner: Hashable, clock: float, values: dict[Any, float]) -> dict[Any, float | None]:
        """Each one's growth a second since the last look; None at the first. ``clock`` is in seconds, the owner's own.

        A look that follows too soon tells again what the last one told.
        """
        last = self._before.get(owner)
        if last is not None and clock - last.clock < _SHORTEST_SECONDS:
            self._now[owner] = last
            return {name: last.rates.get(name) for name in values}
        before, seconds = ({}, 1.0) if last is None else (last.values, clock - last.clock)
        rates = {
            name: None if (past := before.get(name)) is None else max(0.0, value - past) / seconds
            for name, value in values.items()
        }
        self._now[owner] = _Look(clock, values, rates)
        return rates
