"""call_inside(): asks the application of this process without a connection, and has its whole answer; knows no route.

What siblings ask is answered so; where it is no request of HTTP, by one of ``ServerContext.asked``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yeoul.messages.siblings import SiblingAnswer, SiblingQuestion

logger = logging.getLogger(__name__)

_FAULT = 500
_UNKNOWN = 404
# Who asks, and from where: what else a request says decides nothing of the answers that are asked for.
_HEADERS = frozenset(
    {b"authorization", b"x-api-key", b"cookie", b"host", b"origin", b"sec-fetch-site", b"accept", b"content-type"}
)


_SCHEME, _EDGE = ":scheme", ":edge"


class WholeAnswer(NamedTuple):
    """An answer of HTTP."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


async def call_inside(app: ASGIApp, scope: Scope, receive: Receive) -> WholeAnswer:
    """What ``app`` answers, once all of it is there."""
    start: dict[str, Any] = {}
    body: list[bytes] = []

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        elif message["type"] == "http.response.body":
            body.append(message.get("body", b""))

    await app(scope, receive, collect)
    return WholeAnswer(start.get("status", _FAULT), list(start.get("headers", [])), b"".join(body))


async def send_whole(answer: WholeAnswer, send: Send) -> None:
    """Gives it to a client, with its own length."""
    headers = [(name, value) for name, value in answer.headers if name.lower() != b"content-length"]
    headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def question_of(scope: Scope, *, method: str | None = None, path: str | None = None) -> SiblingQuestion:
    """The same request for a sibling, or another one by the same client."""
    raw_path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1") if path is None else path
    query = scope["query_string"].decode("latin-1")
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"] if name in _HEADERS]
    edge = scope.get("state", {}).get("edge")
    return SiblingQuestion(
        method=method or scope["method"],
        target=f"{raw_path}?{query}" if query else raw_path,
        headers=[(_SCHEME, scope["scheme"]), *([(_EDGE, repr(edge))] if edge is not None else []), *headers],
    )


async def answer_sibling(
    app: ASGIApp, asked: Mapping[str, Callable[[bytes], Awaitable[bytes]]], index: int, question: SiblingQuestion
) -> SiblingAnswer:
    """What the process of this index answers a sibling. Never raises."""
    try:
        if not question.method:
            if question.target not in asked:
                return SiblingAnswer(index, _UNKNOWN)
            return SiblingAnswer(index, 200, await asked[question.target](question.body))
        answer = await call_inside(app, _scope_of(question), _reader_of(question.body))
        return SiblingAnswer(index, answer.status, answer.body)
    except Exception:
        logger.exception("what another web process has asked could not be answered: %s", question.target)
        return SiblingAnswer(index, _FAULT)


def _scope_of(question: SiblingQuestion) -> Scope:
    raw_path, _, query = question.target.partition("?")
    besides = {name: value for name, value in question.headers if name in (_SCHEME, _EDGE)}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": question.method,
        "scheme": besides.get(_SCHEME, "http"),
        "path": unquote(raw_path),
        "raw_path": raw_path.encode("latin-1"),
        "root_path": "",
        "query_string": query.encode("latin-1"),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in question.headers if name != _SCHEME],
        "client": None,
        "server": None,
    }


def _reader_of(body: bytes) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive
