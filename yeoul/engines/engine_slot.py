"""EngineSlot: everything that belongs to one engine in the process that has started it; knows no HTTP and no text.

Its client, the task that feeds its requests, the one that watches it, and its recovery. ``EngineSlots`` holds one an engine.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

from yeoul.config.settings import Settings
from yeoul.engine_process.client import AsyncMPClient
from yeoul.engines.engine_recovery import EngineRecovery
from yeoul.engines.engine_requests import EngineRequests
from yeoul.engines.engine_watch import EngineWatch
from yeoul.engines.incidents import IncidentLog
from yeoul.engines.output_queue_loop import OutputQueueLoop
from yeoul.errors import ProcessDeadError
from yeoul.messages.keeper import EngineFacts, EngineState
from yeoul.messages.outputs import EngineReady
from yeoul.messages.statistics import EngineStatistics

logger = logging.getLogger(__name__)

__all__ = ["EngineSlot", "EngineState", "task_death"]


class EngineSlot:
    """One engine, and whichever takes its place when it dies. ``on_end`` is called when none does any longer: ``death``."""

    def __init__(
        self,
        engine: AsyncMPClient,
        requests: EngineRequests,
        settings: Settings,
        incidents: IncidentLog,
        on_end: Callable[[EngineSlot], None],
    ) -> None:
        self.engine = engine
        self.death: ProcessDeadError | None = None
        self.served_since: float | None = None  # of the wall clock
        self.recovery = EngineRecovery(requests, settings, incidents, self._end)
        self._loop = OutputQueueLoop(engine, requests, self.recovery)
        self._watch = EngineWatch(engine, self.recovery, lambda: self._loop.last_heard, settings.time)
        self._requests = requests
        requests.is_well = lambda: self.state == "ready"
        self._on_end = on_end
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def name(self) -> str:
        """Of its EngineCore."""
        return self.engine.name

    @property
    def statistics(self) -> EngineStatistics:
        """The engine's last snapshot."""
        return self._requests.statistics

    @property
    def num_unfinished(self) -> int:
        """Requests that it has, or that wait for it."""
        return len(self._requests.states)

    @property
    def state(self) -> EngineState:
        """What the engine is doing, once it was ready."""
        if self.death is not None:
            return "dead"
        if self.recovery.lost is not None:
            return "recovering"
        return "stalled" if self._watch.is_asking or self.recovery.is_stalled else "ready"

    @property
    def facts(self) -> EngineFacts:
        """All that is told of it beside others."""
        ready = self.engine.ready
        return EngineFacts(
            name=self.name,
            state=self.state,
            cause=self.death.message if self.death is not None else self.recovery.lost,
            num_unfinished=self.num_unfinished,
            statistics=self.statistics,
            role=self._requests.role,
            num_blocks=ready.num_blocks if ready is not None else 0,
            block_size=ready.block_size if ready is not None else 0,
            kv_events=ready.kv_events if ready is not None else None,
        )

    async def start(self) -> EngineReady:
        """Waits until the engine takes requests; errors as of ``EngineRecovery.start``."""
        return await self.recovery.start(self.engine)

    def serve(self) -> None:
        """From now on requests go to the engine. Whatever ends one of its tasks by an error ends the engine, too."""
        self.served_since = time.time()
        self._requests.attach(self.engine)
        self._tasks = [
            asyncio.create_task(self._loop.run(), name="OutputQueueLoop"),
            asyncio.create_task(self._watch.run(), name="EngineWatch"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._note_done)

    def _note_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._end(task_death(task))

    def _end(self, error: ProcessDeadError) -> None:
        if self.death is None:
            logger.error("%s is gone: %s", "the engine" if self.engine.place.count == 1 else self.name, error.message)
            if error.details:
                logger.error("its last traceback:\n%s", error.details)
            self.death = error
            self._requests.is_gone = True
            self._on_end(self)

    def hand_over(self) -> int:
        """It is dead for good: its requests go on in other engines, if there are any: how many there are."""
        assert self.death is not None
        if self._requests.is_attached:
            self._requests.detach(self.death.message)
        return self._requests.hand_over(with_blamed=True)

    async def stop(self) -> None:
        """Ends the engine and every process below it. May be repeated."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.engine.stop()


def task_death(task: asyncio.Task[Any]) -> ProcessDeadError:
    """The end of a task that serves, as the death of the web process."""
    error = None if task.cancelled() else task.exception()
    details = "".join(traceback.format_exception(error)) if error is not None else ""
    return ProcessDeadError("Web", f"lost its task {task.get_name()} ({error!r})", details=details)
