"""InputSockets: the thread ``process_input_sockets`` of EngineCore; receives and decodes while the main thread computes."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from yeoul.errors import ProcessDeadError, TransportClosedError
from yeoul.messages.requests import AddRequestHead, ClientMessage, UtilityCall
from yeoul.messages.steps import CallResult, StepResult
from yeoul.spans import SPANS
from yeoul.transport.sockets import EngineContext, EngineInput
from yeoul.transport.thread_names import start_thread

if TYPE_CHECKING:
    from yeoul.worker_process.executor import Executor

logger = logging.getLogger(__name__)


class ClientGone:
    """Said by ``process_output_sockets`` instead of a message: this client no longer takes what is sent to it."""


class Unreadable(NamedTuple):
    """An ``AddRequest`` that cannot be decoded, and why."""

    head: AddRequestHead
    reason: str


class CallAnswer(NamedTuple):
    """What a client asked of all workers; ``future`` has the results of all ranks, or their death."""

    client_id: bytes
    call: UtilityCall
    future: Future[list[CallResult]]


class FromWorkers(NamedTuple):
    """An answer, or a death, of the workers of ``executor``, which may have been replaced since."""

    executor: Executor
    event: Future[StepResult] | CallAnswer | ProcessDeadError


Arrival = tuple[bytes, ClientMessage | ProcessDeadError | ClientGone | Unreadable | FromWorkers]
"""What wakes the busy loop: the id of the client that said something, or nothing and what the workers, or a thread of this
process that has died, have to say."""


class InputSockets:
    """Puts every message that arrives, with the id of the client that sent it, into ``arrivals``.

    What ``is_taken`` says to have taken is none of the main thread's business.
    """

    def __init__(
        self, arrivals: queue.SimpleQueue[Arrival], is_taken: Callable[[bytes, ClientMessage], bool] = lambda *_: False
    ) -> None:
        self._arrivals = arrivals
        self._is_taken = is_taken
        self._socket: EngineInput | None = None
        self._thread: threading.Thread | None = None

    def start(self, context: EngineContext, address: str) -> None:
        """Opens the socket and starts the thread."""
        self._socket = EngineInput(context, address)
        self._thread = start_thread(
            "process_input_sockets", self._process_input_sockets, lambda death: self._arrivals.put((b"", death))
        )

    def stop(self) -> None:
        """Ends the thread and closes the socket."""
        if self._socket is not None and self._thread is not None:
            self._socket.interrupt()
            self._thread.join()
            self._socket.close()

    def _process_input_sockets(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(TransportClosedError):
            self._receive_all(self._socket)

    def _receive_all(self, socket: EngineInput) -> None:
        decoder, spans = msgspec.msgpack.Decoder(ClientMessage), SPANS.row("process_input_sockets")
        while True:
            client_id, payload = socket.receive()
            began = time.monotonic() if spans.is_on else 0.0
            try:
                message = decoder.decode(payload)
                if not self._is_taken(client_id, message):
                    self._arrivals.put((client_id, message))
            except Exception as error:  # whatever one message does to the decoder, the next one is read
                self._take_unreadable(client_id, payload, error)
            if began:
                spans.note("decode", began, time.monotonic())

    def _take_unreadable(self, client_id: bytes, payload: bytes, error: Exception) -> None:
        """A request is answered, so that nobody waits for it; anything else is dropped."""
        logger.warning("dropped a message of %d bytes that is no ClientMessage: %s", len(payload), error)
        with contextlib.suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
            head = msgspec.msgpack.decode(payload, type=AddRequestHead)
            self._arrivals.put((client_id, Unreadable(head, f"the engine cannot read this request: {error}")))
