"""EngineRecovery: puts another EngineCore in the place of a dead one, and gives it every unfinished request to go on with.

Knows nothing of HTTP, text or sockets. ``EngineSlot`` makes it; ``EngineRequests`` holds the requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from yeoul.config.settings import Settings
from yeoul.engine_process.client import AsyncMPClient
from yeoul.engines.engine_requests import EngineRequests
from yeoul.engines.incidents import IncidentLog, as_death_cause, cause_of_death
from yeoul.errors import ConfigError, GivenUpError, ProcessDeadError
from yeoul.messages.keeper import KeeperNews
from yeoul.messages.outputs import EngineReady, RequestOutput, WorkerInfo, WorkersLost, WorkersReplaced
from yeoul.messages.requests import UtilityCall
from yeoul.recovery.crash_inquiry import BLAMES_NOBODY, Verdict
from yeoul.recovery.recovery_report import record_incident
from yeoul.recovery.restart_budget import RestartBudget

logger = logging.getLogger(__name__)

_RESET = UtilityCall(0, "reset_prefix_cache")  # whose answer nobody awaits


class EngineRecovery:
    """One engine's. ``lost`` tells, as a sentence, which process is missing; None where every one lives.

    ``incidents`` is told what happens.
    """

    def __init__(
        self,
        requests: EngineRequests,
        settings: Settings,
        incidents: IncidentLog,
        on_end: Callable[[ProcessDeadError], None],
    ) -> None:
        """``on_end`` is called when an engine has died that is not replaced."""
        self.lost: str | None = None
        self.is_replacing_workers = False  # the engine is, and answers nothing meanwhile
        self.is_stalled = False  # who keeps it says so
        self.incidents = incidents
        self._has_to_reset = False
        self._requests = requests
        self._on_end = on_end
        self._settings = settings
        self._restarts = RestartBudget(settings.recovery.max_restarts)

    async def start(self, engine: AsyncMPClient) -> EngineReady:
        """Waits until the engine takes requests; one that a signal ended meanwhile is started again.

        Raises:
            ConfigError: a setting or a file cannot work.
            ProcessDeadError: it failed by itself, or was killed too often.
        """
        try:
            return await engine.start()
        except ProcessDeadError as error:
            if error.exit_code is None or error.exit_code >= 0:
                raise
            return await self._replace(engine, error, BLAMES_NOBODY)

    @property
    def num_waiting(self) -> int:
        """Requests for which the engine should do something now; none while it starts workers: it says when it has."""
        return 0 if self.lost is not None else len(self._requests.states)

    async def heal(self, engine: AsyncMPClient, death: ProcessDeadError) -> bool:
        """Replaces an engine that has died, if one is still needed, and sends the new one what is unfinished.

        Returns:
            whether there is another engine now. A server that stops needs none where nothing is left to be done, and its
            readers go on.
        """
        if self._requests.is_closed and not self._requests.states:
            logger.info("%s; nothing was left for it to do", death.message)
            self._requests.detach(death.message)
            return False
        start = time.monotonic()
        self.lost = death.message
        self.is_replacing_workers = False
        self._record(engine, death)
        verdict = self._requests.detach(death.message)
        if num_moved := self._requests.hand_over():
            self.incidents.note(engine.name, "recovery", f"{_go_on(num_moved)} in other engines", time.monotonic() - start)
            logger.info("%s in other engines", _go_on(num_moved))
        try:
            await self._replace(engine, death, verdict)
        except ProcessDeadError as error:
            self._on_end(error)
            return False
        except ConfigError as error:  # what was right for the first engine: the machine has changed since
            self._on_end(ProcessDeadError(engine.name, f"could not be replaced: {error.message}"))
            return False
        self.lost = None
        if self._has_to_reset:
            self._has_to_reset = False
            engine.send(_RESET)
        num_sent = self._requests.attach(engine)
        self._requests.note_new_workers()
        seconds = time.monotonic() - start
        self._requests.observer.replaced(seconds)
        self.incidents.note(engine.name, "recovery", _go_on(num_sent), seconds)
        logger.info("%s was replaced after %.1f s; %d requests go on", engine.name, seconds, num_sent)
        return True

    def _record(self, engine: AsyncMPClient, death: ProcessDeadError) -> None:
        """Of a death of workers EngineCore has written more than is known here."""
        if death.role == engine.name and engine.may_be_replaced and engine.ready is not None:
            record_incident(self._settings, engine.ready.max_model_len, death, self._requests.unfinished())

    def note_workers(self, engine: AsyncMPClient, message: WorkersLost | WorkersReplaced) -> None:
        """The engine is replacing its workers, or has done so."""
        self.is_replacing_workers = isinstance(message, WorkersLost)
        if isinstance(message, WorkersLost):
            self.lost = f"{message.role} {message.cause}"
            self._requests.observer.lost(message.role, cause_of_death(message.cause, message.exit_code))
            self.incidents.note(message.role, "death", message.cause)
            num_moved = self._requests.move_on(message.suspect_ids)
            rest = "its requests wait for another one"
            if num_moved:
                rest = f"{_go_on(num_moved)} in other engines"
                self.incidents.note(engine.name, "recovery", rest)
            logger.warning("%s; %s", self.lost, rest)
        else:
            self.lost = None
            self._has_to_reset = False  # it read that before it said so, or does before it computes anything
            self._requests.note_new_workers()
            self._requests.observer.replaced(message.seconds)
            self._note_new_workers(message.workers)
            self.incidents.note(engine.name, "recovery", _go_on(len(self._requests.states)), message.seconds)
            logger.info("the workers were replaced after %.1f s", message.seconds)

    def reset_prefix_cache_later(self, engine: AsyncMPClient) -> None:
        """It cannot be asked now: before it computes anything for anybody it forgets what it has cached, also on the disk."""
        self._has_to_reset = True
        if self.is_replacing_workers:
            engine.send(_RESET)  # who dies before reading it is replaced by one that is told

    def take_news(self, news: KeeperNews) -> None:
        """What has happened to engines that somebody else keeps."""
        self.lost, self.is_stalled = news.lost, news.is_stalled
        self.incidents.num_restarts.update(Counter(news.restarts) - self.incidents.num_restarts)
        for role, cause in news.deaths:
            self._requests.observer.lost(role, as_death_cause(cause))
        for seconds in news.recoveries:
            self._requests.observer.replaced(seconds)
        for incident in news.incidents:
            self.incidents.take(incident)

    def note_outputs(self, outputs: Iterable[RequestOutput]) -> None:
        """The engine has made these; a request that has only failed is no progress."""
        for output in outputs:
            if output.fault is None:
                self._restarts.note_progress()
                break

    async def take_stock(self, engine: AsyncMPClient) -> None:
        """Asks the engine which requests it has, and sends those again that got lost on the way. Errors as for ``call``."""
        sent_before = self._requests.sent
        answer = await engine.call("unfinished_request_ids")
        # What it had finished by then has been handed out by now: its answers come in their order.
        num_lost = self._requests.send_again(sent_before, set(msgspec.json.decode(answer, type=list[str])))
        if num_lost:
            logger.error("%d requests got lost on the way to the engine, and were sent again", num_lost)

    async def _replace(self, engine: AsyncMPClient, death: ProcessDeadError, verdict: Verdict) -> EngineReady:
        while True:
            self._requests.observer.lost(death.role, cause_of_death(death.cause, death.exit_code))
            self.incidents.note(death.role, "death", death.cause)
            if isinstance(death, GivenUpError) or not engine.may_be_replaced:
                raise death
            pause = self._restarts.note_death(death, verdict)
            logger.warning("%s is replaced: %s", engine.name, death.message)
            if death.details:
                logger.warning("its last traceback:\n%s", death.details)
            start = time.monotonic()
            await asyncio.sleep(pause)
            try:
                ready = await engine.replace()
            except ProcessDeadError as error:
                death, verdict = error, BLAMES_NOBODY
                continue
            words = f"another one, with the pid {ready.pid}, has taken its place"
            self.incidents.note(engine.name, "restart", words, time.monotonic() - start)
            self._note_new_workers(ready.workers)
            return ready

    def _note_new_workers(self, workers: Iterable[WorkerInfo]) -> None:
        for worker in workers:
            words = f"another one, with the pid {worker.pid}, has taken its place"
            self.incidents.note(f"Worker_{worker.rank}", "restart", words)


def _go_on(num_requests: int) -> str:
    return "1 request goes on" if num_requests == 1 else f"{num_requests} requests go on"
