"""BodyReader reads the body of a request within the limits and checks it against a schema; knows no route.

A body that takes long to read is read in a thread, one at a time, so that no client's stops the others' streams. What is
passed over in it is named in a header of the answer, which ``IgnoredFieldsHeader`` adds.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from fastapi import Request
from setproctitle import setthreadtitle
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yeoul.config.settings import ServerSettings
from yeoul.errors import InvalidRequestError, UnavailableError
from yeoul.log import current_request
from yeoul.web_process.http.request_body import Body, ServedBody, parse_body
from yeoul.web_process.http.unknown_fields import UnknownFields

# A millisecond or so of reading; a larger body goes to the thread.
_MAX_BYTES_ON_LOOP = 1 << 14
_MAX_SHOWN_BYTES = 1 << 16
_thread = ThreadPoolExecutor(1, "large_bodies", lambda: setthreadtitle("large_bodies"))


class BodyReader:
    """Reads within two limits: of one body, and of all that are received or read at a time."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._num_bytes = 0  # of all

    @property
    def num_bytes(self) -> int:
        """Of all bodies that are being received or read."""
        return self._num_bytes

    async def read(self, request: Request, model: type[Body]) -> Body:
        """The body as a ``model``.

        Raises:
            InvalidRequestError: it is not JSON, not what the model expects, or is or says that it is larger than may be;
                then the rest is not read.
            UnavailableError: there are too many others.
        """
        body = bytearray()
        try:
            await self._receive(request, body)
            unknown = UnknownFields(is_strict=self._settings.strict_requests)
            request.state.unknown_fields, request.state.num_body_bytes = unknown, len(body)
            if self._settings.show_prompts and len(body) <= _MAX_SHOWN_BYTES:
                request.state.raw_body = bytes(body)
            if len(body) <= _MAX_BYTES_ON_LOOP:
                read = parse_body(body, model, unknown)
            else:
                read = await asyncio.get_running_loop().run_in_executor(_thread, parse_body, body, model, unknown)
            if (account := getattr(request.state, "account", None)) is not None:
                account.read_at = time.monotonic()
            if isinstance(read, ServedBody) and read.request_id is not None:
                request.state.request_id = read.request_id
                current_request.set(read.request_id)
            return read
        finally:
            self._num_bytes -= len(body)

    async def _receive(self, request: Request, body: bytearray) -> None:
        if (coding := request.headers.get("content-encoding", "identity")) != "identity":
            raise InvalidRequestError(f"the body is encoded with {coding[:40]!r}; send it as it is, without content-encoding")
        most = self._settings.max_body_bytes
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            raise _too_large(int(declared), most)
        try:
            async for chunk in request.stream():
                if self._num_bytes + len(chunk) > self._settings.max_total_body_bytes:
                    raise UnavailableError(
                        f"the bodies of other requests take {self._num_bytes} bytes, and all together may take"
                        f" {self._settings.max_total_body_bytes} (--max-total-body-bytes); try again later"
                    )
                body += chunk
                self._num_bytes += len(chunk)
                if len(body) > most:
                    raise _too_large(len(body), most)
        except ClientDisconnect:
            raise InvalidRequestError("the client went away before its request was complete") from None
        if not body:
            raise InvalidRequestError("the body is empty; expected a JSON object", code="invalid_json")


def _too_large(num_bytes: int, max_body_bytes: int) -> InvalidRequestError:
    return InvalidRequestError(
        f"the body has {num_bytes} bytes or more; this server reads at most {max_body_bytes} (--max-body-bytes)",
        status=413,
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
