"""EngineWatch: the asyncio task that finds an EngineCore which lives and does nothing; knows no request and no socket.

While somebody waits for the engine it is asked now and then which requests it has: a sign of life, and a way to find what
got lost. While it replaces its workers it cannot answer, and has a longer limit. Time in which this process was suspended
itself (a frozen container, Ctrl-Z, a virtual machine that moves) is nobody's silence. ``EngineSlot`` starts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from yeoul.config.settings import TimeSettings
from yeoul.engine_process.client import AsyncMPClient
from yeoul.engines.engine_recovery import EngineRecovery
from yeoul.errors import ProcessDeadError, RequestFailedError, UnavailableError

_LOOK_SECONDS = 0.5
_NUM_STOPPED_LOOKS = 4  # in a row: it is not about to go on
_FROZEN_SECONDS = 1.0  # a wait that takes so much longer than it should shows that this process did not run


class EngineWatch:
    """Kills an engine that leaves a question unanswered; ``is_asking`` while one that is silent is waited for.

    Args:
        engine: the engine that is watched.
        recovery: knows how many requests wait for it now, and whether it is replacing its workers.
        last_heard: when it last said something, of the monotonic clock.
        limits: how long until it is asked again; it may be silent for twice that. How long new workers may take.
    """

    def __init__(
        self, engine: AsyncMPClient, recovery: EngineRecovery, last_heard: Callable[[], float], limits: TimeSettings
    ) -> None:
        self._engine = engine
        self._recovery = recovery
        self._last_heard = last_heard
        self._limit_seconds = limits.engine_answer_timeout_seconds
        self._workers_limit_seconds = limits.worker_ready_timeout_seconds + limits.step_timeout_seconds
        self._busy_since = self._last_asked = time.monotonic()
        self.is_asking = False  # an engine that says nothing by itself

    async def run(self) -> None:
        """Until it is cancelled."""
        num_stopped_looks = 0
        while True:
            was_frozen = await self._pause(min(_LOOK_SECONDS, self._limit_seconds / 2))
            is_busy = self._recovery.num_waiting > 0 or self._recovery.is_replacing_workers
            is_stopped = is_busy and not was_frozen and self._engine.is_suspended()
            num_stopped_looks = num_stopped_looks + 1 if is_stopped else 0
            if not is_busy or was_frozen:
                self._begin_anew()
            elif num_stopped_looks >= _NUM_STOPPED_LOOKS:
                self._engine.kill("was stopped by a signal and does not go on")
                num_stopped_looks = 0
            elif self._recovery.is_replacing_workers:
                if self._silence() > self._workers_limit_seconds:
                    self._engine.kill(f"hangs: its workers died, and there are no new ones after {self._silence():.1f} s")
            elif time.monotonic() - self._last_asked > self._limit_seconds:
                await self._ask()

    def _begin_anew(self) -> None:
        self._busy_since = self._last_asked = time.monotonic()

    async def _pause(self, seconds: float) -> bool:
        """Whether this process was suspended meanwhile."""
        start = time.monotonic()
        await asyncio.sleep(seconds)
        return time.monotonic() - start > seconds + _FROZEN_SECONDS

    def _silence(self) -> float:
        """Seconds since it was last heard, or had begun to be waited for."""
        return time.monotonic() - max(self._last_heard(), self._busy_since)

    async def _ask(self) -> None:
        start = self._last_asked = time.monotonic()
        limit = max(self._limit_seconds, 2 * self._limit_seconds - self._silence())
        self.is_asking = self._silence() > self._limit_seconds
        asking = asyncio.create_task(self._recovery.take_stock(self._engine), name="take_stock")
        try:
            with contextlib.suppress(RequestFailedError, ProcessDeadError, UnavailableError):  # it died meanwhile
                if await self._is_answered(asking, limit):
                    self._busy_since = time.monotonic()
                elif self._recovery.num_waiting > 0 and self._last_heard() < start:
                    waiting = f"{self._recovery.num_waiting} requests wait for it"
                    self._engine.kill(f"hangs: it has said nothing for {self._silence():.1f} s while {waiting}")
        finally:
            asking.cancel()
            self.is_asking = False
            await asyncio.gather(asking, return_exceptions=True)  # what became of it no longer matters

    def _note_stall(self) -> None:
        words = f"has said nothing for {self._silence():.1f} s, and gives no sign of life when it is asked"
        self._recovery.incidents.note(self._engine.name, "stall", words, self._silence())

    async def _is_answered(self, asking: asyncio.Task[None], limit_seconds: float) -> bool:
        """Whether the answer comes in time; after a suspension of this process the limit begins anew."""
        rest, is_told = limit_seconds, False
        while rest > 0 and not asking.done():
            start, piece = time.monotonic(), min(_LOOK_SECONDS, rest)
            await asyncio.wait((asking,), timeout=piece)
            seconds = time.monotonic() - start
            if seconds > piece + _FROZEN_SECONDS:
                rest = limit_seconds
                continue
            rest -= seconds
            if self.is_asking and not asking.done() and not is_told:
                is_told = True
                self._note_stall()
        if is_told and asking.done():
            self._recovery.incidents.note(self._engine.name, "recovery", "gives a sign of life again")
        try:
            return asking.done() and asking.result() is None
        except TimeoutError:
            return False
