"""WebSlot: one place among the web processes: whoever is in it, its end, and who comes next; knows no request.

A web process that dies, or that hangs, is replaced within a budget. ``KeeperLife`` holds one a place.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

import msgspec

from yeoul.config.settings import Settings
from yeoul.engines.incidents import IncidentLog, cause_of_death
from yeoul.errors import ConfigError, ProcessDeadError, TransportError, TransportTimeoutError
from yeoul.keeper_process.relay import Relay
from yeoul.keeper_process.web_link import WebLink
from yeoul.messages.keeper import AreYouThere, WebOrder
from yeoul.messages.reports import WebReady
from yeoul.recovery.restart_budget import RestartBudget
from yeoul.transport.child_process import ChildProcess
from yeoul.transport.child_reports import death_of, read_ready

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_NUM_STOPPED_LOOKS = 4  # in a row: it is not about to go on
_FROZEN_SECONDS = 1.0  # a look that comes so much later than it should: this process did not run
_ORDER_SECONDS = 2.0  # a thread of its own takes it, at once
_LONGEST_PAUSE_SECONDS = 1.0  # before a restart: connections that come meanwhile wait for who is started

Start = Callable[[int], tuple[ChildProcess, WebLink]]


class WebSlot:
    """``start`` starts a process, the how-manieth in this place it is told. ``page`` is what the first has reported."""

    def __init__(self, index: int, start: Start, relay: Relay, incidents: IncidentLog, settings: Settings) -> None:
        self.index = index
        self.page: str | None = None
        self.child: ChildProcess | None = None
        self.link: WebLink | None = None
        self._start = start
        self._relay = relay
        self._incidents = incidents
        self._times = settings.time
        self._restarts = RestartBudget(settings.recovery.max_restarts)
        self._num_starts = 0
        self._kill_cause: str | None = None
        self._stopping = asyncio.Event()

    @property
    def name(self) -> str:
        """Of the process, without the prefix."""
        return f"Web_{self.index}"

    def spawn(self) -> None:
        """Starts a process and returns at once. Raises TransportError where there is nothing left for one."""
        self._kill_cause = None
        self.child, self.link = self._start(self._num_starts)
        self._num_starts += 1
        self._relay.open(self.link)

    async def wait_until_ready(self) -> None:
        """Returns when it answers. Errors as of ``read_ready``."""
        assert self.child is not None
        ready = await read_ready(self.child, self._times.engine_ready_timeout_seconds)
        if isinstance(ready, WebReady):
            self.page = self.page or ready.page
        if self.link is not None:
            self._relay.note_ready(self.link)

    async def serve(self) -> None:
        """Replaces whoever dies, until the one of now ends while the server stops.

        Raises:
            ProcessDeadError: too many died without an answer.
        """
        while True:
            death = await self._wait_for_end()
            if self._is_over():
                return
            if self.link is not None and self.link.has_answered:
                self._restarts.note_progress()
            if not await self.replace(death):
                return

    async def replace(self, death: ProcessDeadError) -> bool:
        """Whether there is another one; none is needed where the server stops. Raises as ``serve`` does."""
        while not self._is_over():
            start = time.monotonic()
            self._note_death(death)
            await self._pause(self._restarts.note_death(_as_any_other(death)))
            if self._is_over():
                break
            try:
                self.spawn()
                await self.wait_until_ready()
            except ProcessDeadError as error:
                self.bury()
                death = error
                continue
            except (ConfigError, TransportError) as error:  # what was right for the first one: the machine has changed since
                self.bury()
                death = ProcessDeadError(self.name, f"could not be started: {error.message}")
                continue
            assert self.child is not None
            seconds = time.monotonic() - start
            words = f"another one, with the pid {self.child.pid}, has taken its place"
            self._incidents.note(self.name, "restart", words, seconds)
            self._relay.replaced(seconds)
            logger.info("%s was replaced after %.1f s", self.name, seconds)
            return True
        return False

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), min(seconds, _LONGEST_PAUSE_SECONDS))

    def replace_no_longer(self) -> None:
        """The server stops."""
        self._stopping.set()

    def _is_over(self) -> bool:
        return self._stopping.is_set()

    def _note_death(self, death: ProcessDeadError) -> None:
        self._incidents.note(self.name, "death", death.cause)
        self._relay.lost(self.name, cause_of_death(death.cause, death.exit_code))
        logger.warning("%s is replaced: %s", self.name, death.message)
        if death.details:
            logger.warning("its last traceback:\n%s", death.details)

    async def _wait_for_end(self) -> ProcessDeadError:
        """Of the one of now; what waited for it is forgotten at once, and nothing of it is left."""
        child = self.child
        assert child is not None
        watching = asyncio.create_task(self._watch(child), name="watch_web")
        waiting = asyncio.create_task(child.wait_on_loop(None), name="wait_for_web")
        try:
            await asyncio.wait((waiting, watching), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                watching.result()  # only an error ends it
        finally:
            watching.cancel()
            waiting.cancel()
        death = death_of(child)
        self.bury()
        cause = self._kill_cause
        return death if cause is None else ProcessDeadError(self.name, cause, exit_code=death.exit_code)

    def bury(self) -> None:
        """Nothing is left of the one of now. May be repeated."""
        if self.link is not None:
            self._relay.close(self.link)
            self.link.has_drained.set()  # nothing will come of it
        if self.child is not None:
            self.child.close()
            self.child = None

    async def _watch(self, child: ChildProcess) -> None:
        """Ends one that a signal has stopped for good, or whose event loop does nothing."""
        limit, num_stopped, asked_at = 2 * self._times.engine_answer_timeout_seconds, 0, 0.0
        while True:
            start = time.monotonic()
            await asyncio.sleep(_LOOK_SECONDS)
            now, link = time.monotonic(), self.link
            was_frozen = now - start > _LOOK_SECONDS + _FROZEN_SECONDS
            num_stopped = num_stopped + 1 if child.is_stopped() and not was_frozen else 0
            if num_stopped >= _NUM_STOPPED_LOOKS:
                self.kill("was stopped by a signal and does not go on")
            elif link is not None and link.is_welcome:
                if was_frozen or link.last_heard >= asked_at:
                    link.send(AreYouThere())
                    asked_at = now
                elif now - asked_at > limit:
                    self.kill(f"hangs: its event loop has done nothing for {now - link.last_heard:.1f} s")

    def kill(self, cause: str) -> None:
        """Ends the one of now."""
        self._kill_cause = cause
        if self.child is not None:
            self.child.kill()

    async def drain(self) -> None:
        """Lets the one of now finish what it has, and returns when it has, or has ended."""
        self.replace_no_longer()
        if (link := self.link) is None:
            return
        while not await self.order(WebOrder("drain")) and not link.has_drained.is_set():
            if not link.is_welcome:
                self.kill("was being started when the server stopped")  # it has nothing to finish
                return
            await asyncio.sleep(_LOOK_SECONDS)
        await link.has_drained.wait()

    async def part(self) -> None:
        """Lets the one of now end."""
        while True:
            if await self.order(WebOrder("part")) or self.child is None:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def order(self, order: WebOrder) -> bool:
        """Whether the one of now has taken it; one that is only being started takes none."""
        if (child := self.child) is None:
            return False
        try:
            await asyncio.to_thread(child.ask, msgspec.msgpack.encode(order), _ORDER_SECONDS)
        except (TransportError, TransportTimeoutError):
            return False
        return True


def _as_any_other(death: ProcessDeadError) -> ProcessDeadError:
    """A web process has no cache that fills again: one that memory lacked for is replaced as often as others."""
    return ProcessDeadError(death.role, death.cause, exit_code=death.exit_code, details=death.details)
