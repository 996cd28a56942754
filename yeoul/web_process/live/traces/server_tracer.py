"""ServerTracer: records a whole server for some seconds and makes a trace of it, one at a time; knows no route."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
from setproctitle import setthreadtitle

from yeoul.errors import ConflictError
from yeoul.web_process.engine.request_observer import Observers
from yeoul.web_process.http.writing import encode_list, write_apart
from yeoul.web_process.live.requests.request_log import RequestLog
from yeoul.web_process.live.topology.inside import Inside
from yeoul.web_process.live.traces.recording import Recording
from yeoul.web_process.live.traces.server_trace import ServerTraceWriter
from yeoul.web_process.live.traces.trace_watch import TraceWatch
from yeoul.web_process.server_context import ServerContext


class ServerTracer:
    """Of one server, on its event loop. A server that stops ends what is recorded: the trace is of what there was."""

    def __init__(self, context: ServerContext, log: RequestLog, inside: Inside) -> None:
        self._context = context
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

    async def record(self, seconds: float, stopped: threading.Event) -> bytes:
        """The trace of so many seconds, or of what there is when it is ``stopped``, as JSON.

        Raises:
            ConflictError: another one is recorded.
        """
        if self._recording is not None:
            left = self._recording.began + self._recording.seconds - time.monotonic()
            raise ConflictError(
                f"another trace is recorded just now, for {max(0.0, left):.1f} s more; ask again when that is over"
            )
        llm = self._context.llm
        recording = Recording(next(self._numbers), self._inside.names, self._inside.ask_now, seconds, stopped)
        if self._is_ending:
            recording.stop()
        watch = TraceWatch(llm, [(one.stream, one.terms) for one in self._log.live.values()])
        before = llm.observer
        self._recording, llm.observer = recording, Observers(before, watch)
        thread = ThreadPoolExecutor(1, "trace", lambda: setthreadtitle("trace"))
        try:
            await asyncio.get_running_loop().run_in_executor(thread, recording.run)
        finally:
            recording.stop()
            llm.observer = before
            self._recording = None
            thread.shutdown(wait=False)
        return await write_apart(lambda: _encode(recording, watch))


def _encode(recording: Recording, watch: TraceWatch) -> bytes:
    """Piece by piece: others have their turn in between."""
    writer = ServerTraceWriter(recording, watch)
    writer.write()
    about = msgspec.json.encode(writer.about)
    return b'{"traceEvents":%b,"displayTimeUnit":"ms","otherData":%b}' % (encode_list(writer.events), about)
