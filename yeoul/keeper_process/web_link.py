"""WebLink: one web process as the relay speaks with it, from its start to its end; knows no request and no engine."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from yeoul.messages.encoding import encode_outputs
from yeoul.messages.keeper import KeeperMessage, WebMessage
from yeoul.messages.outputs import RequestFault, RequestOutput, StepFacts, StepOutputs
from yeoul.messages.requests import AddRequestHead
from yeoul.transport.front_sockets import FrontContext, FrontSockets

logger = logging.getLogger(__name__)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(WebMessage)


class WebLink:
    """``is_welcome`` once it was told that the engines are ready. ``steps`` are those that it has not been told of yet.

    ``is_counting`` once its application is made.
    ``last_heard`` is of the monotonic clock; ``has_answered``: a request of its came to an end.
    """

    def __init__(self, index: int, context: FrontContext, folder: str, take: Callable[[WebLink, WebMessage], None]) -> None:
        self.index = index
        self.is_greeting = False  # it has said hello
        self.is_welcome = False
        self.is_counting = False
        self.has_answered = False
        self.has_drained = asyncio.Event()
        self.steps: list[StepFacts] = []
        self.last_heard = time.monotonic()
        self._take = take
        self.sockets = FrontSockets(context, folder, self._receive)

    @property
    def name(self) -> str:
        """Of its process, without the prefix."""
        return f"Web_{self.index}"

    def send(self, message: KeeperMessage) -> None:
        """Queues a message; never blocks."""
        encoded = encode_outputs(_encoder, message) if isinstance(message, StepOutputs) else _encoder.encode(message)
        self.sockets.send(encoded)

    def refuse(self, request_id: str, fault: RequestFault) -> None:
        """A request of its has failed."""
        self.send(StepOutputs([RequestOutput(request_id=request_id, finish_reason="error", fault=fault)]))

    def close(self) -> None:
        """It is gone."""
        self.sockets.close()

    def _receive(self, payload: bytes) -> None:
        self.last_heard = time.monotonic()
        try:
            message: WebMessage = _decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            self._take_unreadable(payload, error)
            return
        try:
            self._take(self, message)
        except Exception:  # whatever one message does, the next one is read
            logger.exception("a %s of %s could not be taken", type(message).__name__, self.name)

    def _take_unreadable(self, payload: bytes, error: Exception) -> None:
        logger.warning("dropped a message of %d bytes of %s: %s", len(payload), self.name, error)
        try:
            request_id = msgspec.msgpack.decode(payload, type=AddRequestHead).request_id
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return
        self.refuse(request_id, RequestFault(f"the keeper of the engines cannot read this request: {error}"))
