"""Turns a ``RequestStream`` into a response, whole or as events; knows neither routes nor formats.

The stream is closed whatever happens: a client that leaves, a format that fails, an answer that is complete.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from fastapi import Request, Response

from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.http.disconnect import on_disconnect
from yeoul.web_process.http.sse import EventFormat, EventStream
from yeoul.web_process.http.writing import is_long, json_response, write_apart


class AnswerFormat(EventFormat, Protocol):
    """How one kind of answer is written, as events or whole."""

    def whole(self, outputs: Iterable[GenerationOutput]) -> bytes:
        """The whole answer as one JSON object."""


async def respond(
    request: Request,
    stream: RequestStream,
    make_format: Callable[[], AnswerFormat],
    *,
    streams: bool,
    keep_alive_seconds: float,
    before_end: Callable[[], Awaitable[None]] | None = None,
) -> Response:
    """The response of a route: events as they come with ``streams``, otherwise one JSON object.

    ``before_end`` is awaited when the answer is complete, and before the client can know.

    Raises:
        YeoulError: the request failed.
    """
    try:
        answer = make_format()
        if not streams:
            outputs = await collect(request, stream)
            is_apart = is_long(outputs, answer.work_a_character)
            body = await write_apart(lambda: answer.whole(outputs)) if is_apart else answer.whole(outputs)
            if before_end is not None:
                await before_end()
            return json_response(body)
    except BaseException:
        stream.close()
        raise
    return EventStream(stream, answer, keep_alive_seconds, before_end)


class WholeStream(Protocol):
    """What is read whole: a ``RequestStream``, or several of them as one."""

    async def collect(self) -> list[GenerationOutput]:
        """All answers; the stream is closed then."""

    def close(self) -> None:
        """Gives up what is not computed yet."""


async def collect(request: Request, stream: WholeStream) -> list[GenerationOutput]:
    """As ``RequestStream.collect``; the stream is closed at once when the client leaves."""
    with on_disconnect(request.receive, stream.close):
        return await stream.collect()
