"""run_server(): the life of the web process from start to exit code; knows no route. ``yeoul serve`` calls it.

The engine's process is started before FastAPI, uvicorn and the tokenizer are imported, so that all load side by side.
The first SIGTERM or SIGINT drains, after a delay for proxies if there is one; a second one ends at once; a dead engine
ends the server with an error. SIGHUP reads the certificates again; from a terminal that is gone it drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import setproctitle
import uvloop

from yeoul.config.models import ModelChoice
from yeoul.config.otlp import find_otlp_target
from yeoul.config.settings import Settings
from yeoul.descriptors import allow_descriptors
from yeoul.engines.engine_slot import task_death
from yeoul.errors import ProcessDeadError
from yeoul.garbage_collection import postpone_garbage_collection, settle_garbage_collection
from yeoul.log import set_up_logging
from yeoul.messages.keeper import OrderKind
from yeoul.messages.outputs import EngineReady
from yeoul.start_parts import START
from yeoul.terminal import has_terminal
from yeoul.web_process.engine.served_model import Progress
from yeoul.web_process.fleet.made import make_fleet
from yeoul.web_process.fleet.model_fleet import ModelFleet
from yeoul.web_process.http.listening import bind_listeners, url_of
from yeoul.web_process.http.tls import ServerTls
from yeoul.web_process.siblings import NO_SIBLINGS, Siblings, server_start
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.tables import TABLES

if TYPE_CHECKING:
    from yeoul.web_process.batches.runner import BatchRunner
    from yeoul.web_process.http_server import HttpServer
    from yeoul.web_process.keeper_side import KeeperSide

logger = logging.getLogger(__name__)

OnReady = Callable[[EngineReady | None, str, str | None], None]
Result = TypeVar("Result")
EXIT_CODE_OF_A_SIGNAL = 128
_NUM_THREADS = 4
NUM_OTHER_DESCRIPTORS = 256  # sockets to the engine, files, libraries
_SECONDS_BETWEEN_LOOKS = 10.0  # at the files of the certificate

# How long a thread that renders or loads may keep the interpreter from the event loop; Python's own is five times that.
SWITCH_INTERVAL_SECONDS = 0.001


def run_server(
    settings: Settings,
    on_ready: OnReady | None = None,
    on_progress: Progress | None = None,
    choices: Sequence[ModelChoice] = (),
) -> int:
    """Serves until a signal; returns the exit code: 0 after a drain, 128 and the signal's number after a second signal.

    Args:
        settings: all of them.
        on_ready: called once with what the engine found (None of several models), the server's address, and that of its
            page, if it has one.
        on_progress: called while a model is fetched, with what, the bytes done, and the bytes in all.
        choices: the models, each with settings of its own, where they are several.

    Raises:
        ConfigError: a setting, the model or the port cannot work.
        ProcessDeadError: the engine or a worker could not start, or died.
    """
    postpone_garbage_collection()
    set_up_logging("Web", settings.server.log_level, settings.server.log_format)
    setproctitle.setproctitle("yeoul::Web")
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    tls = ServerTls(settings.server) if settings.server.ssl_certfile is not None else None
    if settings.server.otlp_traces_endpoint is not None:
        find_otlp_target(settings.server)  # a mistake is told before anything is loaded
    allow_descriptors(settings.server.max_num_connections + NUM_OTHER_DESCRIPTORS, "--max-num-connections")
    with contextlib.ExitStack() as opened:
        listeners = [opened.enter_context(one) for one in bind_listeners(settings.server.host, settings.server.port)]
        fleet = make_fleet(settings, choices, on_progress)
        START.mark("finding the model")
        database = opened.enter_context(Database(settings.store.data_dir, TABLES))
        START.mark("store")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(ServerLife(fleet, listeners, database, on_ready, tls).run())


class ServerLife:
    """One server from start to end, on the running loop of the main thread."""

    def __init__(
        self,
        fleet: ModelFleet,
        listeners: Sequence[socket.socket],
        database: Database,
        on_ready: OnReady | None = None,
        tls: ServerTls | None = None,
        keeper: KeeperSide | None = None,
    ) -> None:
        """With a ``keeper`` that one hears the signals, and says what is to be done: ``note_order``."""
        self._keeper = keeper
        self._parting = asyncio.Event()
        self._fleet = fleet
        self._listeners = listeners
        self._database = database
        self._on_ready = on_ready
        self._tls = tls
        self._has_terminal = has_terminal()
        self._reload_asked = asyncio.Event()
        self._time = fleet.settings.time
        self._first_signal = asyncio.Event()
        self._second_signal = asyncio.Event()
        self._exit_code = 0
        self._http: HttpServer | None = None
        self._serving: asyncio.Task[None] | None = None
        self._batches: BatchRunner | None = None

    async def run(self) -> int:
        """Starts, serves, drains and stops everything; returns the exit code. Errors as for ``run_server``."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(
            ThreadPoolExecutor(_NUM_THREADS, "web_pool", lambda: setproctitle.setthreadtitle("web_pool"))
        )
        if self._keeper is None:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._note_signal, number)
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup starts what shall not hear it
                loop.add_signal_handler(signal.SIGHUP, self._note_hangup)
        renewing = asyncio.create_task(self._renew_certificate(), name="renew_certificate")
        starting = asyncio.create_task(self._fleet.start(), name="start")
        try:
            await asyncio.sleep(0)  # the engine's process is started here, before the imports below
            START.mark("starting EngineCore")
            await self._serve_http()
            START.mark("application and its imports")
            if await _is_first(starting, self._first_signal):
                await self._serve(starting.result())
        finally:
            starting.cancel()
            renewing.cancel()
            await asyncio.gather(starting, renewing, return_exceptions=True)
            await self._stop()
        return self._exit_code

    async def _serve_http(self) -> None:
        """From here on there are answers, 503 until the engine is ready."""
        siblings = NO_SIBLINGS if self._keeper is None else self._keeper
        make = functools.partial(_make_http_server, self._fleet, self._database, self._listeners, self._tls, siblings)
        http, self._batches = await asyncio.to_thread(make)
        self._http, self._serving = http, http.start()

    async def _serve(self, ready: EngineReady | None) -> None:
        """Until the first signal, and then until what runs is finished, the drain's limit, or the second signal."""
        settle_garbage_collection()
        START.mark("waiting for EngineCore")
        START.tell()
        if self._on_ready is not None:
            url = url_of(self._listeners, "http" if self._tls is None else "https")
            self._on_ready(ready, url, self._link_to_page(url))
        assert self._batches is not None
        self._batches.start()
        proving = asyncio.create_task(self._prove_calls(), name="prove_calls")
        resuming = asyncio.create_task(self._resume(), name="resume")
        dying = asyncio.create_task(self._wait_for_death(), name="wait_for_death")
        draining: asyncio.Task[None] | None = None
        try:
            if not await _is_first(dying, self._first_signal):
                draining = asyncio.create_task(self._drain(), name="drain")
                await asyncio.wait((draining, dying), return_when=asyncio.FIRST_COMPLETED)
            if dying.done():
                raise dying.result()
        finally:
            proving.cancel()
            resuming.cancel()
            dying.cancel()
            if draining is not None:
                draining.cancel()

    async def _prove_calls(self) -> None:
        """Of what is loaded now; others are tried when they are loaded for the first time."""
        assert self._http is not None
        prove = self._http.context.prove_calls
        if self._keeper is not None:
            from yeoul.web_process.together.proofs import SharedProofs

            prove = SharedProofs(self._http.context).prove
        self._fleet.on_first_load = prove
        for model in self._fleet.models:
            if model.status == "loaded":
                await prove(model)

    def _link_to_page(self, url: str) -> str | None:
        """Where there are keys, the link lets one browser in; what stands behind ``#`` is sent to nobody."""
        assert self._http is not None
        context = self._http.context
        if not context.settings.server.page:
            return None
        return f"{url}/#login={context.sessions.draw_code()}" if context.sessions.are_needed else f"{url}/"

    async def _resume(self) -> None:
        """What an earlier server had begun goes on, as far as it can."""
        assert self._http is not None
        for work in self._http.context.lasting:
            try:
                await work.resume()
            except Exception:
                logger.exception("what an earlier server had begun could not be taken up")

    async def _wait_for_death(self) -> ProcessDeadError:
        """Returns when the engine is dead for good, or nobody listens any longer: why."""
        assert self._serving is not None
        engine = asyncio.create_task(self._fleet.wait_for_death(), name="wait_for_engine")
        try:
            await asyncio.wait((engine, self._serving), return_when=asyncio.FIRST_COMPLETED)
            return engine.result() if engine.done() else task_death(self._serving)
        finally:
            engine.cancel()

    async def _drain(self) -> None:
        await self._announce()
        if self._batches is not None:
            await self._batches.stop()
        assert self._http is not None
        for work in self._http.context.lasting:
            await work.suspend()
        logger.info("stopping: %d requests are still to be finished", self._fleet.num_unfinished)
        limit = self._time.drain_timeout_seconds
        finishing = asyncio.create_task(self._fleet.drain(), name="finish_requests")
        try:
            async with asyncio.timeout(limit):
                await _is_first(finishing, self._second_signal)
        except TimeoutError:
            logger.warning("%d requests are cut off: they did not finish within %g s", self._fleet.num_unfinished, limit)
        finally:
            finishing.cancel()
        if self._keeper is not None:
            self._keeper.tell_drained()
            await self._parting.wait()

    async def _announce(self) -> None:
        """Lets proxies see at ``/ready`` that this server goes, and refuses nobody until they have, or the second signal."""
        assert self._http is not None
        self._fleet.announce_drain()
        self._http.part_with_clients()
        if (delay := self._time.drain_delay_seconds) > 0:
            logger.info("stopping: /ready is 503, and requests are still taken for %g s", delay)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._second_signal.wait(), delay)

    async def _stop(self) -> None:
        """Ends everything, connections and processes side by side; a second signal hastens it."""
        if self._batches is not None:
            await self._batches.stop()
        if self._http is not None:
            self._http.stop(self._time.stop_timeout_seconds)
        ending = asyncio.create_task(self._end(), name="end")
        if not await _is_first(ending, self._second_signal):
            if self._serving is not None:
                self._serving.cancel()
            await self._fleet.shutdown(at_once=True)
        await ending

    async def _end(self) -> None:
        await self._fleet.shutdown()
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)

    def _note_signal(self, number: int) -> None:
        if not self._first_signal.is_set():
            self._first_signal.set()
            return
        self._exit_code = EXIT_CODE_OF_A_SIGNAL + number
        self._second_signal.set()

    def note_order(self, kind: OrderKind) -> None:
        """What the keeper wants."""
        if kind == "reload":
            self._reload_asked.set()
            return
        self._first_signal.set()
        if kind == "part":
            self._parting.set()

    def _note_hangup(self) -> None:
        """A terminal that was closed takes its server with it, in order; anybody else means the files."""
        if self._has_terminal and not has_terminal():
            self._note_signal(signal.SIGHUP)
        else:
            logger.info("SIGHUP: %s", "there is no certificate to read" if self._tls is None else "reading the certificate")
            self._reload_asked.set()

    async def _renew_certificate(self) -> None:
        """Certificates are renewed while we run: the files are looked at now and then, and when somebody asks."""
        while self._tls is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reload_asked.wait(), _SECONDS_BETWEEN_LOOKS)
            try:
                if self._reload_asked.is_set() or await asyncio.to_thread(self._tls.has_changed):
                    self._reload_asked.clear()
                    await asyncio.to_thread(self._tls.reload)
            except Exception:
                logger.exception("the certificate could not be looked at; it will be again")


def _make_http_server(
    fleet: ModelFleet, database: Database, listeners: Sequence[socket.socket], tls: ServerTls | None, siblings: Siblings
) -> tuple[HttpServer, BatchRunner]:
    """In a thread, because the imports take long and the tokenizer's are made at the same time."""
    from yeoul.web_process.batches.runner import BatchRunner
    from yeoul.web_process.http_server import HttpServer
    from yeoul.web_process.operations.metrics import Metrics, render_all
    from yeoul.web_process.server_context import ServerContext

    metrics = [Metrics(model) for model in fleet.models]
    for model, counts in zip(fleet.models, metrics, strict=True):
        model.llm.observer = counts
    render = functools.partial(render_all, fleet.models, metrics)
    started_at = server_start(siblings)
    context = ServerContext(fleet, fleet.settings, database, render, started_at, siblings=siblings)
    return HttpServer(context, listeners, tls), BatchRunner(context)


async def _is_first(task: asyncio.Task[Result], event: asyncio.Event) -> bool:
    """Whether ``task`` is done before ``event`` is set; it is left running if it is not."""
    waiting = asyncio.create_task(event.wait(), name="wait_for_signal")
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    return task.done()
