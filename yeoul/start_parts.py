"""StartParts: what the start of this process was spent on, from exec until it was ready; knows no process's kind.

``START`` is this process's own: whoever does a part of the start says so when it is done, and its main tells the whole.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import yeoul
from yeoul.log import with_fields

logger = logging.getLogger(__name__)

_UNATTRIBUTED = "unattributed"


class StartParts:
    """Parts that follow each other, so that they add up to the whole; what is done beside them in a thread is told apart."""

    def __init__(self, began: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._began = self._last = began
        self._clock = clock
        self._parts: dict[str, float] = {}
        self._beside: dict[str, float] = {}
        self._is_told = False

    def mark(self, part: str, at: float | None = None) -> None:
        """What came since the last mark was this; of a start that has been told, nothing is noted any longer."""
        if not self._is_told:
            at = max(self._last, self._clock() if at is None else at)
            self._parts[part] = self._parts.get(part, 0.0) + at - self._last
            self._last = at

    def note_beside(self, part: str, seconds: float) -> None:
        """A thread did this meanwhile."""
        if not self._is_told:
            self._beside[part] = self._beside.get(part, 0.0) + seconds

    def tell(self) -> None:
        """The process is ready: one line of the log. Harmless when repeated."""
        if self._is_told:
            return
        self.mark(_UNATTRIBUTED)
        self._is_told = True
        parts = {name: round(seconds, 3) for name, seconds in self._parts.items()}
        beside = {name: round(seconds, 3) for name, seconds in self._beside.items()}
        words = ", ".join(f"{name} {seconds:.2f}" for name, seconds in parts.items() if seconds >= 0.005)
        if beside:
            words += "; beside it " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in beside.items())
        seconds = round(self._last - self._began, 3)
        extra = with_fields(start_seconds=seconds, start_parts=parts, start_beside=beside)
        logger.info("ready %.2f s after its start: %s", seconds, words, extra=extra)


def began_at() -> float:
    """When this process was started, of the monotonic clock, to a hundredth of a second; now, where nothing tells."""
    now = time.monotonic()
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return now
    return now - max(0.0, age)


START = StartParts(began_at())
START.mark("interpreter", yeoul.IMPORTED_AT)
