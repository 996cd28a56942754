"""DeathWatch: a thread that sleeps on the sentinels of child processes and reports the first death at once.

Knows nothing of what the children do. The two monitors of the hierarchy are of this kind.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Sequence
from typing import ClassVar

from yeoul.errors import ProcessDeadError
from yeoul.transport.child_process import ChildProcess
from yeoul.transport.child_reports import death_of
from yeoul.transport.thread_names import start_thread


class DeathWatch:
    """Calls ``on_death`` once, from its own thread, when the first of the children dies; ``stop()`` ends it silently."""

    thread_name: ClassVar[str] = "DeathWatch"

    def __init__(self, children: Sequence[ChildProcess], on_death: Callable[[ProcessDeadError], None]) -> None:
        self._children = children
        self._on_death = on_death
        self._stop_event = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread = start_thread(self.thread_name, self._watch, self._on_death)

    def stop(self) -> None:
        """Ends the thread; no death is reported from now on."""
        os.eventfd_write(self._stop_event, 1)
        if self._thread is not None:
            self._thread.join()
        os.close(self._stop_event)

    def _watch(self) -> None:
        if (death := self._wait()) is not None:
            self._on_death(death)

    def _wait(self) -> ProcessDeadError | None:
        """The first death; None where the thread is to end before."""
        poller = select.poll()
        poller.register(self._stop_event, select.POLLIN)
        by_sentinel = {child.sentinel: child for child in self._children}
        for sentinel in by_sentinel:
            poller.register(sentinel, select.POLLIN)
        ended = {descriptor for descriptor, _ in poller.poll()}
        return None if self._stop_event in ended else death_of(by_sentinel[ended.pop()])
