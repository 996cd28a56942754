"""EngineClock: what EngineCore's monotonic clock shows, in the web process's; knows no message.

Two hosts' clocks have nothing to do with each other, and a message takes its time. The one that took least tells most: the
difference is the least of those seen, which fades slowly, since no two clocks run alike. On one host it is some microseconds.
"""

from __future__ import annotations

_DRIFT = 1e-4  # more than two clocks differ by in their rates


class EngineClock:
    """Of one engine; ``forget`` when there is another."""

    def __init__(self) -> None:
        self._difference: float | None = None
        self._last = 0.0

    def note(self, sent: float, now: float) -> None:
        """A message that was sent at ``sent`` there has come, ``now`` here."""
        difference, known = now - sent, self._difference
        if known is not None and difference > (faded := known + _DRIFT * (now - self._last)):
            difference = faded
        self._difference = difference
        self._last = now

    def here(self, there: float) -> float:
        """A time of the engine's clock as it was here; 0 where nothing has come yet."""
        return there + self._difference if self._difference is not None else 0.0

    def forget(self) -> None:
        """Another engine may be on another host."""
        self._difference = None
