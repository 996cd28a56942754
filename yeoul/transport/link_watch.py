"""LinkWatch: a thread that sleeps on ZeroMQ links and reports when one breaks; for an engine that runs apart.

The counterpart of ``DeathWatch``, for a process that is nobody's child here. ``EngineConnection`` starts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import zmq

from yeoul.errors import ProcessDeadError
from yeoul.transport.death_watch import DeathWatch


class LinkWatch(DeathWatch):
    """Calls ``on_death`` once, from its own thread, when the first of the links breaks; ``stop()`` ends it silently.

    ``events`` has a monitor socket for each link; they are closed by ``stop()``.
    """

    thread_name = "MPClientEngineMonitor"

    def __init__(self, events: Sequence[zmq.Socket[bytes]], on_death: Callable[[ProcessDeadError], None]) -> None:
        super().__init__([], on_death)
        self._events = events

    def stop(self) -> None:
        """Ends the thread; no death is reported from now on."""
        super().stop()
        for events in self._events:
            events.close(linger=0)

    def _wait(self) -> ProcessDeadError | None:
        poller = zmq.Poller()
        poller.register(self._stop_event, zmq.POLLIN)
        for events in self._events:
            poller.register(events, zmq.POLLIN)
        if self._stop_event in dict(poller.poll()):
            return None
        return ProcessDeadError("EngineCore", "closed the connection, or its host is out of reach")
