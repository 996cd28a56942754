"""RequestIds: every request has an id and may have a place in a trace; both come back, with what else a client may know.

ASGI, around all else. The id is the client's own ``X-Request-Id`` (or ``request_id`` of the body, see ``BodyReader``), else a
fresh one; it stands in the log wherever the request does. The trace is W3C's ``traceparent``
(https://www.w3.org/TR/trace-context/): passed on and given back; where spans are made, as the place of
the request's own. ``Server-Timing`` says what the time until now went to. Knows no route and no engine.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yeoul.config.settings import Settings
from yeoul.log import current_request
from yeoul.web_process.engine.time_account import TimeAccount
from yeoul.web_process.engine.waiting_room import RoomLeft
from yeoul.web_process.http.event_comments import queue_words
from yeoul.web_process.http.request_lines import RequestLine
from yeoul.web_process.http.server_timing import server_timing
from yeoul.web_process.http.traffic import Traffic

REQUEST_ID = r"[A-Za-z0-9._:/+=@~-]{1,128}"
_id = re.compile(REQUEST_ID.encode())
_traceparent = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class RequestIds:
    """``measure_room`` says what is left for a tenant; nothing to who has no key where one is needed.

    ``traffic`` is told how each answer begins. With ``--request-log`` somebody watches what a request's time goes to; else
    only how much it was is told.
    """

    def __init__(
        self,
        app: ASGIApp,
        measure_room: Callable[[str | None], RoomLeft | None],
        traffic: Traffic,
        settings: Settings,
        *,
        makes_spans: bool = False,
    ) -> None:
        self._app = app
        self._measure_room = measure_room
        self._traffic = traffic
        self._tells_causes = settings.server.request_log
        self._makes_spans = makes_spans
        self._queue_notice_seconds = settings.time.queue_notice_seconds
        self._level = logging.INFO if settings.server.log_requests else logging.DEBUG

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Notes ``request_id`` and ``traceparent`` in the request's state, and adds the headers as the answer begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        state = scope.setdefault("state", {})
        state["request_id"] = _first(scope, b"x-request-id", _id) or f"req_{uuid.uuid4().hex}"
        state["traceparent"] = _first(scope, b"traceparent", _traceparent)
        if self._makes_spans and scope["method"] == "POST":
            state["own_span"] = _span_in(state["traceparent"])
        current_request.set(state["request_id"])
        line = RequestLine(scope, began, self._level)
        account = TimeAccount(began) if self._tells_causes and scope["method"] == "POST" else None
        state["account"] = account

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                causes = {"total": time.monotonic() - began} if account is None else await account.tell("writing")
                milliseconds = int(sum(causes.values()) * 1000)
                line.status = message["status"]
                self._traffic.note_status(message["status"])
                own = [*self._headers(scope, milliseconds), (b"server-timing", server_timing(causes))]
                place = None if account is None else account.queue_place
                if place is not None and 0 < self._queue_notice_seconds <= causes.get("queued", 0.0):
                    own.append((b"yeoul-queued", queue_words(place, "; ").encode()))
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            line.write(account)
            if account is not None:
                account.close()

    def _headers(self, scope: Scope, milliseconds: int) -> list[tuple[bytes, bytes]]:
        state = scope["state"]
        headers = [(b"x-request-id", state["request_id"].encode()), (b"openai-processing-ms", b"%d" % milliseconds)]
        if place := state.get("own_span") or state["traceparent"]:
            headers.append((b"traceparent", place.encode()))
        if scope["method"] == "POST" and (room := self._measure_room(state.get("tenant"))) is not None:
            headers += [
                (b"x-ratelimit-limit-requests", b"%d" % room.most_requests),
                (b"x-ratelimit-limit-tokens", b"%d" % room.most_tokens),
                (b"x-ratelimit-remaining-requests", b"%d" % room.requests),
                (b"x-ratelimit-remaining-tokens", b"%d" % room.tokens),
            ]
        return headers


def _span_in(traceparent: str) -> str:
    """A new place in the client's trace, or in a new one."""
    trace_id, flags = (traceparent[3:35], traceparent[53:55]) if traceparent else (uuid.uuid4().hex, "01")
    return f"00-{trace_id}-{uuid.uuid4().hex[:16]}-{flags}"


def _first(scope: Scope, name: bytes, pattern: re.Pattern[bytes]) -> str:
    """The header's value, where it is what may stand in a log; else nothing."""
    value = next((value for header, value in scope["headers"] if header == name), b"")
    return value.decode() if pattern.fullmatch(value) else ""
