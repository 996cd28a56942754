"""Reads the body of a request within the limit and checks it against a schema; knows no route.

A body that takes long to read is read in a thread, one at a time, so that no client's stops the others' streams. What is
passed over in it is named in a header of the answer, which ``IgnoredFieldsHeader`` adds.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from fastapi import Request
from setproctitle import setthreadtitle
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yeoul.config.settings import ServerSettings
from yeoul.errors import InvalidRequestError, PayloadTooLargeError
from yeoul.web_process.schemas.body import Body, parse_body
from yeoul.web_process.schemas.unknown_fields import UnknownFields

# A millisecond or so of reading; a larger body goes to the thread.
_MAX_BYTES_ON_LOOP = 1 << 14
_thread = ThreadPoolExecutor(1, "large_bodies", lambda: setthreadtitle("large_bodies"))


async def read_body(request: Request, model: type[Body], settings: ServerSettings) -> Body:
    """The body as a ``model``.

    Raises:
        PayloadTooLargeError: it is, or says that it is, larger than may be; the rest is not read.
        InvalidRequestError: it is not JSON, or not what the model expects.
    """
    body = await _receive(request, settings.max_body_bytes)
    unknown = UnknownFields(is_strict=settings.strict_requests)
    request.state.unknown_fields, request.state.num_body_bytes = unknown, len(body)
    if len(body) <= _MAX_BYTES_ON_LOOP:
        return parse_body(body, model, unknown)
    return await asyncio.get_running_loop().run_in_executor(_thread, parse_body, body, model, unknown)


async def _receive(request: Request, max_body_bytes: int) -> bytearray:
    if (coding := request.headers.get("content-encoding", "identity")) != "identity":
        raise InvalidRequestError(f"the body is encoded with {coding[:40]!r}; send it as it is, without content-encoding")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_body_bytes:
        raise _too_large(int(declared), max_body_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_body_bytes:
                raise _too_large(len(body), max_body_bytes)
    except ClientDisconnect:
        raise InvalidRequestError("the client went away before its request was complete") from None
    if not body:
        raise InvalidRequestError("the body is empty; expected a JSON object", code="invalid_json")
    return body


def _too_large(num_bytes: int, max_body_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"the body has {num_bytes} bytes or more; this server reads at most {max_body_bytes} (--max-body-bytes)"
    )


class IgnoredFieldsHeader:
    """ASGI middleware: ``yeoul-ignored-fields`` names what was passed over in the request's body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Adds the header as the answer begins."""

        async def send_with_header(message: Message) -> None:
            unknown: UnknownFields | None = scope.get("state", {}).get("unknown_fields")
            if message["type"] == "http.response.start" and unknown is not None and unknown.names:
                MutableHeaders(scope=message)["yeoul-ignored-fields"] = unknown.header
            await send(message)

        is_post = scope["type"] == "http" and scope["method"] == "POST"
        await self._app(scope, receive, send_with_header if is_post else send)
