"""KeeperLife: one server of several web processes from start to end: engines first, web processes beside them, the relay.

Knows no HTTP and no text. ``run_keeper`` runs it on the loop of the main thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from yeoul.config.settings import Settings
from yeoul.engine_process.client import AsyncMPClient
from yeoul.engines.engine_slots import EngineSlots
from yeoul.errors import ConfigError, ProcessDeadError
from yeoul.garbage_collection import settle_garbage_collection
from yeoul.keeper_process.keeper_look import look
from yeoul.keeper_process.relay import Relay
from yeoul.keeper_process.web_link import WebLink
from yeoul.keeper_process.web_slot import Start, WebSlot
from yeoul.messages.keeper import WebOrder
from yeoul.messages.outputs import EngineReady
from yeoul.messages.questions import Answer, Question
from yeoul.model_files.context_length import choose_max_model_len
from yeoul.model_files.describe import describe
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.model_files.resolve import resolve_model
from yeoul.own_thread import in_own_thread
from yeoul.self_report import Child, Respondent
from yeoul.start_parts import START
from yeoul.terminal import has_terminal
from yeoul.transport.child_process import ChildProcess
from yeoul.transport.front_sockets import FrontContext
from yeoul.web_process.launch import WebArguments, spawn_web

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
EXIT_CODE_OF_A_SIGNAL = 128
_SPARE_SECONDS = 5.0  # beyond what a web process gives itself to end


class KeeperLife:
    """Made whole by the constructor, run once."""

    def __init__(
        self,
        settings: Settings,
        names: list[str],
        listeners: Sequence[Sequence[socket.socket]],
        folder: str,
        on_ready: Callable[[EngineReady, str | None, list[int]], None] | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """``listeners`` are those of each web process; ``folder`` has the sockets of the links, and what is shared."""
        self._settings = settings
        self._names = names
        self._on_progress = on_progress
        self._files: ModelFiles
        self._description: ModelDescription
        self._listeners = listeners
        self._folder = folder
        self._on_ready = on_ready
        self._context = FrontContext()
        self._relay = Relay(settings.parallel.data_parallel_size, settings.parallel.num_prefill_engines)
        self._engines = EngineSlots(self._relay.table, AsyncMPClient)
        self._relay.answers = {"unfinished_request_ids": self._tell_ids, "topology": self._look, "ask": self._ask}
        self.webs = [
            WebSlot(index, self._starter(index), self._relay, self._engines.incidents, settings)
            for index in range(settings.server.api_server_count)
        ]
        self._respondent = Respondent("Keeper", self._children)
        self._has_terminal = has_terminal()
        self._first_signal, self._second_signal = asyncio.Event(), asyncio.Event()
        self._exit_code = 0
        self._ordering: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Starts, serves, drains and stops everything; returns the exit code. Errors as for ``run_keeper``."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._note_signal, number)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self._note_hangup)
        tasks: list[asyncio.Task[Any]] = []
        try:
            starting = asyncio.create_task(self._start(), name="start")
            tasks.append(starting)
            if await self._is_first(starting):
                await self._serve(tasks, starting.result())
            elif self._relay.is_serving:  # some have clients already
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                await self._drain(*self._look_after(tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._stop()
        return self._exit_code

    async def _start(self) -> EngineReady:
        """The first error of any child ends the start; a web process that dies when others serve already is replaced."""
        await in_own_thread("fetch_model", self._find_model)
        START.mark("finding the model")
        max_model_len = choose_max_model_len(self._settings.model.max_model_len, self._description)
        self._engines.spawn(self._settings, self._files, self._description, max_model_len)
        for web in self.webs:
            web.spawn()
        START.mark("starting EngineCore")
        webs = [asyncio.create_task(self._start_web(web), name="start_web") for web in self.webs]
        engines = asyncio.create_task(self._engines.start(), name="start_engines")
        try:
            pending: set[asyncio.Task[Any]] = {engines, *webs}
            ready: EngineReady | None = None
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=lambda task: task is not engines):  # an engine's own error says more
                    task.result()
                if ready is None and engines.done():
                    ready = engines.result()
                    self._engines.serve()
                    self._relay.serve(self._engines, ready)
                    START.mark("waiting for EngineCore")
        finally:
            for task in (engines, *webs):
                task.cancel()
            await asyncio.gather(engines, *webs, return_exceptions=True)
        assert ready is not None
        return ready

    async def _start_web(self, web: WebSlot) -> None:
        try:
            await web.wait_until_ready()
        except ProcessDeadError as death:
            if not self._relay.is_serving:
                raise
            web.bury()
            await web.replace(death)

    def _find_model(self) -> None:
        self._files = resolve_model(self._settings.model, self._on_progress)
        self._description = describe(self._files)

    async def _serve(self, tasks: list[asyncio.Task[Any]], ready: EngineReady) -> None:
        """Until the first signal, and then until all web processes have drained, or the second signal."""
        settle_garbage_collection()
        START.mark("waiting for web processes")
        START.tell()
        if self._on_ready is not None:
            self._on_ready(ready, self.webs[0].page, self.pids)
        serving, dying = self._look_after(tasks)
        signalled = asyncio.create_task(self._first_signal.wait(), name="wait_for_signal")
        tasks.append(signalled)
        done, _ = await asyncio.wait((dying, signalled, *serving), return_when=asyncio.FIRST_COMPLETED)
        if dying in done:
            await self._tell_death(dying.result(), serving)
            raise dying.result()
        for task in serving:
            if task in done:
                task.result()
                raise ProcessDeadError("Keeper", "has lost sight of a web process")
        await self._drain(serving, dying)

    def _look_after(self, tasks: list[asyncio.Task[Any]]) -> tuple[list[asyncio.Task[None]], asyncio.Task[ProcessDeadError]]:
        """Those that replace web processes, and the one that ends when no engine is left."""
        serving = [asyncio.create_task(web.serve(), name="serve_web") for web in self.webs if web.child is not None]
        dying = asyncio.create_task(self._engines.wait_for_death(), name="wait_for_engine")
        tasks += [*serving, dying]
        return serving, dying

    async def _tell_death(self, death: ProcessDeadError, serving: Sequence[asyncio.Task[None]]) -> None:
        """Web processes tell their clients why they end."""
        for web in self.webs:
            web.replace_no_longer()
        self._relay.tell_death(death)
        await asyncio.wait(serving, timeout=self._settings.time.stop_timeout_seconds + _SPARE_SECONDS)

    async def _drain(self, serving: Sequence[asyncio.Task[None]], dying: asyncio.Task[ProcessDeadError]) -> None:
        """All refuse what comes until the last one has finished."""
        logger.info("stopping: %d requests are still to be finished", self._relay.table.num_unfinished)
        times = self._settings.time
        closing = asyncio.get_running_loop().call_later(times.drain_delay_seconds, self._close_table)
        limit = times.drain_delay_seconds + times.drain_timeout_seconds + _SPARE_SECONDS
        draining = asyncio.gather(*(web.drain() for web in self.webs))
        parting: asyncio.Future[list[None]] | None = None
        second = asyncio.create_task(self._second_signal.wait(), name="wait_for_signal")
        try:
            await asyncio.wait((draining, second, dying), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if dying.done() and not draining.done():
                await self._tell_death(dying.result(), serving)
                raise dying.result()
            if not second.done():
                parting = asyncio.gather(*(web.part() for web in self.webs))
                limit = times.stop_timeout_seconds + _SPARE_SECONDS
                await asyncio.wait((asyncio.gather(*serving), second), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
            second.cancel()
            for task in (draining, parting):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    def _close_table(self) -> None:
        """None takes requests any longer: an engine that has nothing left to do need not be replaced."""
        self._relay.table.is_closed = True

    async def _stop(self) -> None:
        """Ends everything; a second signal hastens it."""
        for web in self.webs:
            web.replace_no_longer()
            web.kill("is ended, as the server is")
        ending = asyncio.create_task(self._engines.stop(), name="end")
        if not await self._is_first(ending, self._second_signal):
            self._engines.kill("is ended at once, as the server is")
        await ending
        for web in self.webs:
            web.bury()
        self._context.close()

    async def _is_first(self, task: asyncio.Task[Any], event: asyncio.Event | None = None) -> bool:
        waiting = asyncio.create_task((event or self._first_signal).wait(), name="wait_for_signal")
        try:
            await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        return task.done()

    def _note_signal(self, number: int) -> None:
        if not self._first_signal.is_set():
            self._first_signal.set()
            return
        self._exit_code = EXIT_CODE_OF_A_SIGNAL + number
        self._second_signal.set()

    def _note_hangup(self) -> None:
        """A terminal that was closed takes its server with it, in order; anybody else means the files."""
        if self._has_terminal and not has_terminal():
            self._note_signal(signal.SIGHUP)
            return

        async def order() -> None:
            await asyncio.gather(*(web.order(WebOrder("reload")) for web in self.webs))

        logger.info("SIGHUP: web processes read the certificate")
        task = asyncio.create_task(order(), name="order_webs")
        self._ordering.add(task)
        task.add_done_callback(self._ordering.discard)

    # Web processes

    @property
    def pids(self) -> list[int]:
        """Of the web processes of now."""
        return [web.child.pid for web in self.webs if web.child is not None]

    def _starter(self, index: int) -> Start:
        def start(num_starts: int) -> tuple[ChildProcess, WebLink]:
            link = WebLink(index, self._context, self._folder, self._relay.take)
            try:
                descriptors = [one.fileno() for one in self._listeners[index]]
                arguments = WebArguments(
                    settings=self._settings,
                    names=self._names,
                    files=self._files,
                    description=self._description,
                    index=index,
                    count=len(self._listeners),
                    start=num_starts,
                    listener_fds=descriptors,
                    addresses=link.sockets.addresses,
                    folder=self._folder,
                )
                return spawn_web(arguments, descriptors), link
            except BaseException:
                link.close()
                raise

        return start

    def _children(self) -> list[Child]:
        return [web.child for web in self.webs if web.child is not None]

    async def _tell_ids(self, asker: WebLink, arguments: list[str]) -> str:
        return json.dumps(self._relay.table.ids_of(asker))

    async def _look(self, asker: WebLink, arguments: list[str]) -> str:
        return msgspec.json.encode(await look(self._engines, self.webs, asker)).decode()

    async def _ask(self, asker: WebLink, arguments: list[str]) -> str:
        """In a thread: whoever answers may be slow."""
        question = msgspec.json.decode(arguments[0], type=Question)
        return msgspec.json.encode(await asyncio.to_thread(self._answer, question)).decode()

    def _answer(self, question: Question) -> Answer:
        name: str = question.process
        if not name.startswith(("EngineCore", "Worker_")):
            return self._respondent.answer(question)
        size = self._settings.parallel.num_workers
        number = int(name.rpartition("_")[2]) if "_" in name else 0
        slots = self._engines.slots
        place = number // size if name.startswith("Worker_") else number
        if not 0 <= place < len(slots):
            raise ConfigError(f"there is no process {name[:100]!r} here")
        return slots[place].engine.ask(question)
