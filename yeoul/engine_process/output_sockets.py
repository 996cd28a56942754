"""OutputSockets: the thread ``process_output_sockets`` of EngineCore; encodes and sends while the main thread computes."""

from __future__ import annotations

import queue
import threading
import time

import msgspec

from yeoul.engine_process.input_sockets import Arrival, ClientGone
from yeoul.messages.encoding import encode_outputs
from yeoul.messages.outputs import EngineMessage, StepOutputs
from yeoul.spans import SPANS
from yeoul.transport.sockets import EngineContext, EngineOutput
from yeoul.transport.thread_names import start_thread


class OutputSockets:
    """Sends what is put, in order, to the client that it is for; what is put before ``stop()`` is still sent.

    ``arrivals`` gets a ``ClientGone`` for a client that takes nothing any longer, and the thread's own death.
    """

    def __init__(self, arrivals: queue.SimpleQueue[Arrival]) -> None:
        self._arrivals = arrivals
        self._queue: queue.SimpleQueue[tuple[bytes, EngineMessage] | None] = queue.SimpleQueue()
        self._socket: EngineOutput | None = None
        self._thread: threading.Thread | None = None

    def start(self, context: EngineContext, address: str) -> None:
        """Opens the socket and starts the thread."""
        self._socket = EngineOutput(context, address)
        self._thread = start_thread(
            "process_output_sockets", self._process_output_sockets, lambda death: self._arrivals.put((b"", death))
        )

    @property
    def num_waiting(self) -> int:
        """How many messages are still to be sent."""
        return self._queue.qsize()

    def put(self, client_id: bytes, message: EngineMessage) -> None:
        """Returns at once; the thread encodes and sends."""
        self._queue.put((client_id, message))

    def stop(self) -> None:
        """Ends the thread after what is queued, and closes the socket."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _process_output_sockets(self) -> None:
        assert self._socket is not None
        try:
            self._send_all(self._socket)
        finally:
            self._socket.close()

    def _send_all(self, socket: EngineOutput) -> None:
        encoder, spans = msgspec.msgpack.Encoder(), SPANS.row("process_output_sockets")
        while (item := self._queue.get()) is not None:
            client_id, message = item
            began = time.monotonic() if spans.is_on else 0.0
            payload = encode_outputs(encoder, message) if isinstance(message, StepOutputs) else encoder.encode(message)
            if not socket.send(client_id, payload):
                self._arrivals.put((client_id, ClientGone()))
            if began:
                number = message.steps[-1].number if isinstance(message, StepOutputs) and message.steps else -1
                spans.note("encode and send", began, time.monotonic(), number)
