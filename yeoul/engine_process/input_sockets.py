"""InputSockets: the thread ``process_input_sockets`` of EngineCore; receives and decodes while the main thread computes."""

from __future__ import annotations

import logging
import queue
import threading

import msgspec

from yeoul.config.parts import EngineLink
from yeoul.errors import ProcessDeadError, TransportClosedError
from yeoul.messages.requests import ClientMessage
from yeoul.transport.sockets import EngineInput
from yeoul.transport.thread_names import start_thread

logger = logging.getLogger(__name__)

Arrival = tuple[bytes, ClientMessage | ProcessDeadError]


class InputSockets:
    """Puts every message that arrives, with the id of the client that sent it, into ``arrivals``."""

    def __init__(self, link: EngineLink, arrivals: queue.SimpleQueue[Arrival]) -> None:
        self._link = link
        self._arrivals = arrivals
        self._socket: EngineInput | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Opens the socket and starts the thread."""
        self._socket = EngineInput(self._link)
        self._thread = start_thread("process_input_sockets", self._process_input_sockets)

    def stop(self) -> None:
        """Ends the thread and closes the socket."""
        if self._socket is not None and self._thread is not None:
            self._socket.interrupt()
            self._thread.join()

    def _process_input_sockets(self) -> None:
        assert self._socket is not None
        decoder = msgspec.msgpack.Decoder(ClientMessage)
        try:
            while True:
                client_id, payload = self._socket.receive()
                try:
                    self._arrivals.put((client_id, decoder.decode(payload)))
                except msgspec.MsgspecError as error:
                    logger.warning("dropped a message of %d bytes that is no ClientMessage: %s", len(payload), error)
        except TransportClosedError:
            self._socket.close()
