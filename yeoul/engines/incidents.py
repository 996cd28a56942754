"""IncidentLog: the last deaths, restarts, silences and recoveries, for whoever shows them; knows no process and no HTTP.

``EngineRecovery`` and ``EngineWatch`` write it.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal

import msgspec

from yeoul.messages.topology import Incident, IncidentKind

_MAX_NUM_INCIDENTS = 100

DeathCause = Literal["memory", "hang", "signal", "error"]


def cause_of_death(words: str, exit_code: int | None) -> DeathCause:
    """Of a process whose end is told in ``words``: the kernel had no memory left, it hung, a signal or itself ended it."""
    if "had no memory left" in words:
        return "memory"
    if words.startswith("hangs") or "was stopped by a signal" in words:
        return "hang"
    return "signal" if exit_code is not None and exit_code < 0 else "error"


def as_death_cause(word: str) -> DeathCause:
    """One that another process has told."""
    cause: DeathCause = msgspec.convert(word, DeathCause)
    return cause


class IncidentLog:
    """Of all engines of an ``AsyncLLM``. ``listeners`` are told of each at once, on the event loop.

    ``num_restarts`` counts by process.
    """

    def __init__(self) -> None:
        self.listeners: list[Callable[[Incident], None]] = []
        self.num_restarts: Counter[str] = Counter()
        self._incidents: deque[Incident] = deque(maxlen=_MAX_NUM_INCIDENTS)

    @property
    def last(self) -> list[Incident]:
        """The newest last."""
        return list(self._incidents)

    def note(self, process: str, kind: IncidentKind, words: str, seconds: float | None = None) -> None:
        """It has happened just now; ``seconds`` is how long it took or had lasted."""
        if kind == "restart":
            self.num_restarts[process] += 1
        rounded = None if seconds is None else round(seconds, 3)
        self.take(Incident(at=time.time(), process=process, kind=kind, words=words, seconds=rounded))

    def take(self, incident: Incident) -> None:
        """One that somebody else has noted, and counted."""
        self._incidents.append(incident)
        for listener in self.listeners:
            listener(incident)
