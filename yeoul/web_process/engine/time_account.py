"""TimeAccount: what the time of a request went to, as those tell it who watch its streams; knows no HTTP and no cause.

``RequestIds`` makes one for each request, ``RequestLog`` adds a part for each of its streams, and the answer tells it.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple, Protocol

from yeoul.web_process.engine.waiting_room import QueuePlace

_MAX_WORK_ON_LOOP = 4096  # prompt tokens, and ten times the steps: a millisecond or so


class Outcome(NamedTuple):
    """How many tokens came and were made, and why the last answer ended."""

    num_prompt_tokens: int
    num_output_tokens: int
    finish_reason: str | None


class TimedPart(Protocol):
    """A stream of the request. Times are of the monotonic clock."""

    @property
    def outcome(self) -> Outcome:
        """What has become of it so far."""

    @property
    def ended_at(self) -> float | None:
        """When its answer was complete; None where it is not."""

    @property
    def work(self) -> int:
        """How much it takes to tell."""

    def seconds_by_cause(self, since: float, until: float) -> dict[str, float]:
        """What the time between the two went to; together it is all of it."""


class TimeAccount:
    """Of a request that came at ``began``. ``read_at`` is when its body had been read; None where it was not, or has none.
    ``queue_place`` is the one that it had when its first stream entered the engine.
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self.read_at: float | None = None
        self.queue_place: QueuePlace | None = None
        self._parts: list[TimedPart] = []
        self._is_closed = False

    def add(self, part: TimedPart) -> None:
        """Another stream, which begins when the one before has ended."""
        if not self._is_closed:
            self._parts.append(part)

    def close(self) -> None:
        """The request has its answer; what goes on in its name is no part of it any longer."""
        self._is_closed = True
        self._parts.clear()

    @property
    def outcome(self) -> Outcome | None:
        """What has become of all streams together; None where there was none."""
        outcomes = [part.outcome for part in self._parts]
        if not outcomes:
            return None
        num_prompt_tokens, num_output_tokens, reasons = zip(*outcomes, strict=True)
        return Outcome(sum(num_prompt_tokens), sum(num_output_tokens), reasons[-1])

    async def tell(self, rest: str) -> dict[str, float]:
        """Seconds by cause from its beginning until now; ``rest`` is the name of what follows the end of the last stream."""
        now, parts = time.monotonic(), list(self._parts)
        if sum(part.work for part in parts) > _MAX_WORK_ON_LOOP:
            return await asyncio.to_thread(self._divide, parts, now, rest)
        return self._divide(parts, now, rest)

    def _divide(self, parts: list[TimedPart], now: float, rest: str) -> dict[str, float]:
        if not parts:
            read_at = now if self.read_at is None else self.read_at
            return {"reading": read_at - self.began, "tokenizing": now - read_at}
        causes: dict[str, float] = {}
        since = self.began
        for part in parts:
            ended_at = part.ended_at
            until = now if ended_at is None else max(since, min(now, ended_at))
            for name, seconds in part.seconds_by_cause(since, until).items():
                causes[name] = causes.get(name, 0.0) + seconds
            since = until
        causes[rest] = causes.get(rest, 0.0) + now - since
        return causes
