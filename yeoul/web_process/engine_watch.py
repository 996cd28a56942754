"""EngineWatch: the asyncio task that finds an EngineCore which lives and does nothing; knows no request and no socket.

While somebody waits for the engine and it says nothing, it is asked for a sign of life. ``AsyncLLM`` starts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from yeoul.errors import ProcessDeadError, RequestFailedError
from yeoul.web_process.engine_link import EngineLink

_LOOK_SECONDS = 0.5
_NUM_STOPPED_LOOKS = 4  # in a row: it is not about to go on


class EngineWatch:
    """Kills an engine that leaves a ping unanswered; ``is_asking`` while it is waited for.

    Args:
        engine: the engine that is watched.
        num_waiting: how many requests wait for it now; 0 where it need not say anything.
        last_heard: when it last said something, of the monotonic clock.
        limit_seconds: how long it may be silent before it is asked, and then until its answer.
    """

    def __init__(
        self,
        engine: EngineLink,
        num_waiting: Callable[[], int],
        last_heard: Callable[[], float],
        limit_seconds: float,
    ) -> None:
        self._engine = engine
        self._num_waiting = num_waiting
        self._last_heard = last_heard
        self._limit_seconds = limit_seconds
        self._busy_since = time.monotonic()
        self.is_asking = False

    def start(self) -> asyncio.Task[None]:
        """Starts the task on the running loop, under the name ``EngineWatch``."""
        return asyncio.get_running_loop().create_task(self.run(), name="EngineWatch")

    async def run(self) -> None:
        """Until it is cancelled."""
        num_stopped_looks = 0
        while True:
            await asyncio.sleep(min(_LOOK_SECONDS, self._limit_seconds / 2))
            now = time.monotonic()
            num_stopped_looks = num_stopped_looks + 1 if self._num_waiting() > 0 and self._engine.is_suspended() else 0
            if self._num_waiting() == 0:
                self._busy_since = now
            elif num_stopped_looks >= _NUM_STOPPED_LOOKS:
                self._engine.kill("was stopped by a signal and does not go on")
                num_stopped_looks = 0
            elif now - max(self._last_heard(), self._busy_since) > self._limit_seconds:
                await self._ask()

    async def _ask(self) -> None:
        start = time.monotonic()
        self.is_asking = True
        with contextlib.suppress(RequestFailedError, ProcessDeadError):
            try:
                await asyncio.wait_for(self._engine.call("ping"), self._limit_seconds)
            except TimeoutError:
                if self._num_waiting() > 0 and self._last_heard() < start:
                    silence = time.monotonic() - max(self._last_heard(), self._busy_since)
                    self._engine.kill(
                        f"hangs: it has said nothing for {silence:.1f} s while {self._num_waiting()} requests wait for it"
                    )
        self.is_asking = False
        self._busy_since = time.monotonic()
