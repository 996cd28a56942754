"""BoundedHttpProtocol: uvicorn's connection with limits on what a client may send before its request begins, and on how long
it may leave its answer unread.

Uvicorn waits for ever for the rest of a request and for a reader, keeps headers of any length, loses the body of a request
that offers to speak HTTP/2 (as Java's client and ``curl --http2`` do), writes chunks to clients of HTTP/1.0, and tells only
the last of several requests that came in one go that their client has left. Knows no application.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from yeoul.config.settings import Settings
from yeoul.errors import InvalidRequestError, UnavailableError, YeoulError
from yeoul.web_process.http.error_responses import ErrorResponse

MAX_HEADER_BYTES = 64 << 10
MAX_NUM_HEADERS = 128
MAX_URL_BYTES = 8 << 10

# How long a client that was refused may go on sending, so that it reads why instead of a broken connection.
_LINGER_SECONDS = 2.0

logger = logging.getLogger(__name__)

_OFFERS = frozenset({b"upgrade", b"http2-settings"})

# TLS says goodbye, and waits for the other side to do so too; an idle client may not be listening.
_FAREWELL_SECONDS = 0.2

# The name under which a request's scope has the ``AnswerWriter`` of its connection.
ANSWER_WRITER = "yeoul.answer_writer"


class BoundedHttpProtocol(HttpToolsProtocol):
    """A request has to be complete within uvicorn's keep-alive time, and its first lines within the limits above."""

    def __init__(self, settings: Settings, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._reader_timeout_seconds = settings.time.reader_timeout_seconds
        self._max_num_connections = settings.server.max_num_connections
        self._num_unparsed_bytes: int | None = None
        self._num_header_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._reader_deadline: asyncio.TimerHandle | None = None
        self._refusal: YeoulError | None = None
        self._is_refused = False
        self._open_cycles: list[RequestResponseCycle] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request has to come in time."""
        super().connection_made(transport)
        if len(self.connections) > self._max_num_connections:
            self._refusal = UnavailableError(
                f"{self._max_num_connections} connections are open, and no more may be (--max-num-connections); try later"
            )
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any longer, and every request of this client ends, those that wait for their turn too."""
        _cancel(self._deadline)
        _cancel(self._reader_deadline)
        self._abandon_answers()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops: an idle connection is closed, another after its answer; nobody has to answer a goodbye."""
        super().shutdown()
        if self.scheme == "https" and self.transport.is_closing():
            self.loop.call_later(_FAREWELL_SECONDS, self._break_off_farewell)

    def data_received(self, data: bytes) -> None:
        """Passes the bytes on, unless they are more headers than anybody needs."""
        if self._is_refused:
            return
        if self._refusal is not None:
            self.send_400_response("")
            return
        if self._num_unparsed_bytes is not None:
            self._num_unparsed_bytes += len(data)
        try:
            self._unset_keepalive_if_required()
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._pass_over_offer(data[offer.args[0] :])
            return
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        if self._num_unparsed_bytes is not None and self._num_unparsed_bytes > MAX_URL_BYTES + MAX_HEADER_BYTES:
            self._refusal = _too_large("bytes of headers", MAX_HEADER_BYTES)  # a line without end: the parser tells nothing
            self.send_400_response("")

    def _pass_over_offer(self, rest: bytes) -> None:
        """Reads a request that offers to speak something else once more, without the offer: HTTP lets a server ignore it."""
        method = self.parser.get_method()
        if method == b"CONNECT":  # no offer but a demand
            self.send_400_response("")
            return
        head = [method, b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name == b"connection":
                value = b", ".join(token for token in value.split(b",") if token.strip().lower() not in _OFFERS)
            if name not in _OFFERS:
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"".join([*head, b"\r\n", rest]))

    def on_message_begin(self) -> None:
        """A request begins; bytes that came with its beginning are counted once its headers are complete."""
        super().on_message_begin()
        self._num_unparsed_bytes = 0
        self._num_header_bytes = 0
        self._start_clock()

    def on_url(self, url: bytes) -> None:
        """A part of the path and query; the error ends the parser's work."""
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._refusal = InvalidRequestError(
                f"the path and query have more than {MAX_URL_BYTES} bytes; send what is long in the body", status=414
            )
            raise self._refusal

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, whole; the error ends the parser's work."""
        super().on_header(name, value)
        self._num_header_bytes += len(name) + len(value)
        if len(self.headers) > MAX_NUM_HEADERS:
            self._refusal = _too_large("headers", MAX_NUM_HEADERS)
        elif self._num_header_bytes > MAX_HEADER_BYTES:
            self._refusal = _too_large("bytes of headers", MAX_HEADER_BYTES)
        if self._refusal is not None:
            raise self._refusal

    def on_headers_complete(self) -> None:
        """What follows is body, whose length the routes limit."""
        self._num_unparsed_bytes = None
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        if self.cycle is not None:
            self._open_cycles = [cycle for cycle in self._open_cycles if not cycle.response_complete]
            self._open_cycles.append(self.cycle)
        if self.cycle is not None and self.cycle.scope is self.scope and self.scope["http_version"] != "1.0":
            self.scope["extensions"] = {ANSWER_WRITER: AnswerWriter(self.cycle)}  # type: ignore[dict-item]

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begins to answer, when it is the request's turn."""
        if cycle.scope["http_version"] == "1.0":
            app = _WithoutChunks(app, cycle)
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        """The request is complete; how long its answer takes is not the client's fault."""
        if not self.parser.should_upgrade():
            _cancel(self._deadline)
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's answer to what is no HTTP, and ours to what is too much of it; then nothing more is read of it."""
        error = self._refusal or InvalidRequestError(
            "what came is no valid HTTP/1.1 request; send a request line, headers and a body of the length that they say"
        )
        logger.warning("a client was refused: %s", error.message)
        self._is_refused = True
        if self._abandon_answers():
            self.transport.close()
            return
        response = ErrorResponse(error)
        head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        self.transport.write(STATUS_LINE[response.status_code] + head + b"connection: close\r\n\r\n" + bytes(response.body))
        _cancel(self._deadline)
        self._deadline = self.loop.call_later(_LINGER_SECONDS, self.transport.close)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _abandon_answers(self) -> bool:
        """What is being answered is answered no further, as if its client had left; whether an answer had begun."""
        self.pipeline.clear()
        has_begun = False
        for cycle in self._open_cycles:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
                has_begun = has_begun or cycle.response_started
        self._open_cycles.clear()
        return has_begun

    def pause_writing(self) -> None:
        """The client takes nothing at the moment; if that lasts, it is left, whatever it was to get."""
        super().pause_writing()
        _cancel(self._reader_deadline)
        self._reader_deadline = self.loop.call_later(self._reader_timeout_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        _cancel(self._reader_deadline)
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """An idle connection ends; one whose client has not even taken its last answer does not wait for that."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _break_off_farewell(self) -> None:
        if not self.transport.get_write_buffer_size():  # else an answer is still on its way
            self.transport.abort()

    def _start_clock(self) -> None:
        _cancel(self._deadline)
        self._deadline = self.loop.call_later(self.timeout_keep_alive, self.transport.close)


class AnswerWriter:
    """Writes pieces of an answer that has begun, past whatever stands between a route and its connection."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    def write(self, piece: bytes) -> bool:
        """Writes it, whether the client reads or not: False says that it does not; then ``send`` would wait until it does.

        As with ``send``, nothing is written for a client that has left.
        """
        cycle = self._cycle
        assert cycle.chunked_encoding, "it has begun, and has no length"
        if piece and not cycle.disconnected:  # a chunk without bytes would be the last
            cycle.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        return not cycle.flow.write_paused


class _WithoutChunks:
    """An answer without a length as a client of HTTP/1.0 reads it: as it is, up to the connection's end (RFC 9112, 6.1)."""

    def __init__(self, app: ASGIApp, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_length = False

        async def send_plain(message: Message) -> None:
            nonlocal has_length
            if message["type"] == "http.response.start":
                has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if not has_length:
                self._cycle.chunked_encoding = False
                self._cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await self._app(scope, receive, send_plain)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _too_large(what: str, most: int) -> InvalidRequestError:
    return InvalidRequestError(f"the request has more than {most} {what}; send fewer", status=431)
