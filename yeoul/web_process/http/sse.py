"""Server-sent events: sends a ``RequestStream`` as it comes, with keep-alives; knows no engine and no event's shape.

The headers go out with the first event (or the first keep-alive), so an early failure is still a plain HTTP error.
A client that leaves closes the stream at once; one that reads slowly makes ``send`` wait, and the stream merges meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from yeoul.errors import YeoulError
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.http.disconnect import on_disconnect
from yeoul.web_process.http.error_responses import ErrorResponse, foreseen
from yeoul.web_process.http.event_comments import last_comment, queue_comment, reads_comments
from yeoul.web_process.http.http_protocol import ANSWER_WRITER, AnswerWriter
from yeoul.web_process.http.writing import is_long, write_apart

logger = logging.getLogger(__name__)

EVENTS = b"text/event-stream; charset=utf-8"

# An empty event, which every reader passes over. Comments are no less legal, but readers that take events apart at blank
# lines only, vLLM's benchmark among them, join a comment with the event behind it.
EMPTY_EVENT = b"\n\n"
EVENT_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_HEADERS = [(name.encode(), value.encode()) for name, value in EVENT_HEADERS.items()]


class EventFormat(Protocol):
    """How the deltas of one kind of answer are written, in the words of its API.

    ``work_a_character``: see ``is_long``. ``keep_alive`` is sent when there has been nothing to tell for a while.
    """

    content_type: bytes
    keep_alive: bytes
    work_a_character: int

    def events(self, output: GenerationOutput) -> bytes:
        """The events of a delta."""

    def closing(self) -> bytes:
        """The events after the last delta."""

    def failure(self, error: YeoulError) -> bytes:
        """The events that end a stream which has begun and cannot go on."""


def _join_events(events: Callable[[GenerationOutput], bytes], batch: Sequence[GenerationOutput]) -> bytes:
    return b"".join(map(events, batch))


class EventStream(Response):
    """The response of a streaming route. Closes ``stream`` when it ends, however it ends.

    ``before_end`` is awaited between the last delta and the closing events.
    """

    def __init__(
        self,
        stream: RequestStream,
        event_format: EventFormat,
        keep_alive_seconds: float,
        before_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._stream = stream
        self._format = event_format
        self._keep_alive_seconds = keep_alive_seconds
        self._before_end = before_end
        self._timer: asyncio.TimerHandle | None = None
        self._is_quiet = False
        self._has_begun = False
        self._writer: AnswerWriter | None = None
        self._is_read = False
        self._has_comments = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends everything; an error before the first event becomes a plain HTTP error, a later one an event."""
        self._has_comments = self._stream.wants_places = self._format.content_type == EVENTS and reads_comments(scope)
        self._tick()
        try:
            with on_disconnect(receive, self._stream.close):
                self._writer = scope.get("extensions", {}).get(ANSWER_WRITER)
                self._stream.take_at_once = self._write_at_once
                await asyncio.create_task(self._send_all(scope, send), name="send_events")
        except Exception as error:
            if not isinstance(error, YeoulError):
                logger.exception("request %s failed", self._stream.request_id)
            if not self._has_begun:
                await ErrorResponse(error)(scope, receive, send)
                return
            await self._send(send, self._format.failure(foreseen(error)), is_last=True)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._stream.close()

    def _write_at_once(self, output: GenerationOutput) -> bool:
        """Writes most deltas of a stream that has begun; ``_send_all`` those that take long, or for which it has to wait."""
        if not self._is_read or self._writer is None or is_long((output,), self._format.work_a_character):
            return False
        try:
            if events := self._format.events(output):
                self._is_quiet = False
                self._is_read = self._writer.write(events)
        except Exception as error:
            self._stream.fail(error)
        return True

    async def _send_all(self, scope: Scope, send: Send) -> None:
        """A task of its own, so that what is woken for an event is this function, not all that is around the response."""
        while True:
            try:
                batch = await self._stream.next_batch()
            except StopAsyncIteration:
                break
            work = functools.partial(_join_events, self._format.events, batch)
            if is_long(batch, self._format.work_a_character):
                payload = await write_apart(work)
            else:
                payload = work() if batch else self._in_pause()
            if batch and payload:
                self._is_quiet = False
            await self._send(send, payload)
            self._is_read = True
        if self._before_end is not None:
            await self._before_end()
        comment = await last_comment(scope) if self._has_comments else b""
        await self._send(send, comment + self._format.closing(), is_last=True)

    def _in_pause(self) -> bytes:
        """What is sent when the stream was poked: its place, where that is what it was poked for."""
        place = self._stream.take_place()
        return self._format.keep_alive if place is None else queue_comment(place)

    async def _send(self, send: Send, payload: bytes, *, is_last: bool = False) -> None:
        if not self._has_begun:
            self._has_begun = True
            headers = [(b"content-type", self._format.content_type), *_HEADERS]
            await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": payload, "more_body": not is_last})

    def _tick(self) -> None:
        """Every ``keep_alive_seconds``: a stream that had nothing to tell since the last time is poked."""
        if self._is_quiet:
            self._stream.poke()
        self._is_quiet = True
        self._timer = asyncio.get_running_loop().call_later(self._keep_alive_seconds, self._tick)
