"""OutputSockets: the thread ``process_output_sockets`` of EngineCore; encodes and sends while the main thread computes."""

from __future__ import annotations

import queue
import threading

import msgspec

from yeoul.config.parts import EngineLink
from yeoul.messages.outputs import EngineMessage
from yeoul.transport.sockets import EngineOutput
from yeoul.transport.thread_names import start_thread


class OutputSockets:
    """Sends what is put, in order, to the client that it is for; what is put before ``stop()`` is still sent."""

    def __init__(self, link: EngineLink) -> None:
        self._link = link
        self._queue: queue.SimpleQueue[tuple[bytes, EngineMessage] | None] = queue.SimpleQueue()
        self._socket: EngineOutput | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Opens the socket and starts the thread."""
        self._socket = EngineOutput(self._link)
        self._thread = start_thread("process_output_sockets", self._process_output_sockets)

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
        encoder = msgspec.msgpack.Encoder()
        while (item := self._queue.get()) is not None:
            client_id, message = item
            self._socket.send(client_id, encoder.encode(message))
        self._socket.close()
