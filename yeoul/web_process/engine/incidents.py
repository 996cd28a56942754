"""IncidentLog: the last deaths, restarts, silences and recoveries, for whoever shows them; knows no process and no HTTP.

``EngineRecovery`` and ``EngineWatch`` write it.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

from yeoul.messages.topology import Incident, IncidentKind

_MAX_NUM_INCIDENTS = 100


class IncidentLog:
    """Of one engine slot. ``listeners`` are told of each at once, on the event loop; ``num_restarts`` counts by process."""

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
        incident = Incident(at=time.time(), process=process, kind=kind, words=words, seconds=rounded)
        self._incidents.append(incident)
        for listener in self.listeners:
            listener(incident)
