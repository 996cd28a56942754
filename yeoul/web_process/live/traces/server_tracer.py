"""ServerTracer: records a whole server for some seconds and makes a trace of it, one at a time; knows no route."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec
from setproctitle import setthreadtitle

from yeoul.errors import ConflictError
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.request_observer import Observers
from yeoul.web_process.http.writing import encode_pieces
from yeoul.web_process.live.requests.request_log import RequestLog
from yeoul.web_process.live.topology.inside import Inside
from yeoul.web_process.live.traces.recording import Recording
from yeoul.web_process.live.traces.server_trace import ServerTraceWriter
from yeoul.web_process.live.traces.trace_watch import TraceWatch
from yeoul.web_process.server_context import ServerContext

_NUM_FREED_AT_A_TIME = 4096


class ServerTracer:
    """Of one server, on its event loop. A server that stops ends what is recorded: the trace is of what there was."""

    def __init__(self, context: ServerContext, llm: AsyncLLM, log: RequestLog, inside: Inside) -> None:
        self._llm = llm
        self._log = log
        self._inside = inside
        self._numbers = itertools.count(1)
        self._recording: Recording | None = None
        self._is_ending = False
        context.lasting.append(self)

    async def resume(self) -> None:
        """Nothing is taken up here."""

    async def suspend(self) -> None:
        """The server stops."""
        self._is_ending = True
        if self._recording is not None:
            self._recording.stop()

    async def record(self, seconds: float, stopped: threading.Event) -> list[bytes]:
        """The trace of so many seconds, or of what there is when it is ``stopped``, as JSON in pieces.

        Raises:
            ConflictError: another one is recorded.
        """
        if self._recording is not None:
            left = self._recording.began + self._recording.seconds - time.monotonic()
            raise ConflictError(
                f"another trace is recorded just now, for {max(0.0, left):.1f} s more; ask again when that is over"
            )
        llm = self._llm
        recording = Recording(next(self._numbers), self._inside.names, self._inside.ask_now, seconds, stopped)
        if self._is_ending:
            recording.stop()
        watch = TraceWatch(llm, [(one.stream, one.terms) for one in self._log.live.values()])
        before = llm.observer
        self._recording, llm.observer = recording, Observers(before, watch)
        thread = ThreadPoolExecutor(1, "trace", lambda: setthreadtitle("trace"))
        run = partial(asyncio.get_running_loop().run_in_executor, thread)
        try:
            try:
                await run(recording.run)
            finally:
                recording.stop()
                llm.observer = before
                self._recording = None
            return await run(_encode, recording, watch)  # a second or two: in the thread of large answers others would wait
        finally:
            thread.shutdown(wait=False)
            watch.requests.clear()  # those that came meanwhile know it as long as they live


def _encode(recording: Recording, watch: TraceWatch) -> list[bytes]:
    """Piece by piece: others have their turn in between."""
    writer = ServerTraceWriter(recording, watch)
    writer.write()
    about = msgspec.json.encode(writer.about)
    head, tail = b'{"traceEvents":', b',"displayTimeUnit":"ms","otherData":%b}' % about
    pieces = [head, *encode_pieces(writer.events), tail]
    _let_go(writer.events)
    for process in recording.processes:
        _let_go(process.spans)
    return pieces


def _let_go(things: list[Any]) -> None:
    """A part at a time: nobody else has his turn while they are freed."""
    while things:
        del things[-_NUM_FREED_AT_A_TIME:]
