"""RequestIds: every request has an id and may have a place in a trace; both come back, with what else a client may know.

ASGI, around all else. The id is the client's own ``X-Request-Id`` (or ``request_id`` of the body, see ``BodyReader``), else a
fresh one; it stands in the log wherever the request does. The trace is W3C's ``traceparent``
(https://www.w3.org/TR/trace-context/): passed on and given back, nothing is measured for it. Knows no route and no engine.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yeoul.web_process.engine.waiting_room import RoomLeft

REQUEST_ID = r"[A-Za-z0-9._:/+=@~-]{1,128}"
_id = re.compile(REQUEST_ID.encode())
_traceparent = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

logger = logging.getLogger(__name__)


class RequestIds:
    """``measure_room`` says what is left for a tenant; nothing to who has no key where one is needed."""

    def __init__(self, app: ASGIApp, measure_room: Callable[[str | None], RoomLeft | None]) -> None:
        self._app = app
        self._measure_room = measure_room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Notes ``request_id`` and ``traceparent`` in the request's state, and adds the headers as the answer begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        state = scope.setdefault("state", {})
        state["request_id"] = _first(scope, b"x-request-id", _id) or f"req_{uuid.uuid4().hex}"
        state["traceparent"] = _first(scope, b"traceparent", _traceparent)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                milliseconds = int((time.monotonic() - began) * 1000)
                logger.debug(
                    "request %s: %s %s is answered with %d after %d ms%s",
                    *(state["request_id"], scope["method"], scope["path"], message["status"], milliseconds),
                    f", trace {state['traceparent']}" if state["traceparent"] else "",
                )
                message = {**message, "headers": [*message["headers"], *self._headers(scope, milliseconds)]}
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _headers(self, scope: Scope, milliseconds: int) -> list[tuple[bytes, bytes]]:
        state = scope["state"]
        headers = [(b"x-request-id", state["request_id"].encode()), (b"openai-processing-ms", b"%d" % milliseconds)]
        if state["traceparent"]:
            headers.append((b"traceparent", state["traceparent"].encode()))
        if scope["method"] == "POST" and (room := self._measure_room(state.get("tenant"))) is not None:
            headers += [
                (b"x-ratelimit-limit-requests", b"%d" % room.most_requests),
                (b"x-ratelimit-limit-tokens", b"%d" % room.most_tokens),
                (b"x-ratelimit-remaining-requests", b"%d" % room.requests),
                (b"x-ratelimit-remaining-tokens", b"%d" % room.tokens),
            ]
        return headers


def _first(scope: Scope, name: bytes, pattern: re.Pattern[bytes]) -> str:
    """The header's value, where it is what may stand in a log; else nothing."""
    value = next((value for header, value in scope["headers"] if header == name), b"")
    return value.decode() if pattern.fullmatch(value) else ""
