"""LinkWatch: a thread that sleeps on ZeroMQ links and reports when one breaks; for an engine that runs apart.

The counterpart of ``DeathWatch``, for a process that is nobody's child here. ``AsyncMPClient`` starts it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

import zmq

from yeoul.errors import ProcessDeadError
from yeoul.transport.thread_names import start_thread


class LinkWatch:
    """Calls ``on_death`` once, from its own thread, when the first of the links breaks; ``stop()`` ends it silently.

    ``events`` has a monitor socket for each link; they are closed by ``stop()``.
    """

    def __init__(
        self, thread_name: str, events: Sequence[zmq.Socket[bytes]], on_death: Callable[[ProcessDeadError], None]
    ) -> None:
        self._thread_name = thread_name
        self._events = events
        self._on_death = on_death
        self._stop_event = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread = start_thread(self._thread_name, self._watch, self._on_death)

    def stop(self) -> None:
        """Ends the thread; no death is reported from now on."""
        os.eventfd_write(self._stop_event, 1)
        if self._thread is not None:
            self._thread.join()
        os.close(self._stop_event)
        for events in self._events:
            events.close(linger=0)

    def _watch(self) -> None:
        poller = zmq.Poller()
        poller.register(self._stop_event, zmq.POLLIN)
        for events in self._events:
            poller.register(events, zmq.POLLIN)
        ready = dict(poller.poll())
        if self._stop_event not in ready:
            self._on_death(ProcessDeadError("EngineCore", "closed the connection, or its host is out of reach"))
