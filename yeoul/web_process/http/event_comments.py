"""Comments of an event stream: a place in the queue while it waits, and what its time went to; knows no format and no route.

They are for readers that say that they read event streams, as EventSource does: the standard makes these pass comments over.
Many others read lines, and take what is no ``data: {...}`` for broken; they accept anything, or JSON. In Go some of those
(go-openai) say that they read event streams: a comment is a part of the next error to them, which they no longer tell then.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope

from yeoul.web_process.engine.time_account import TimeAccount
from yeoul.web_process.engine.waiting_room import QueuePlace
from yeoul.web_process.http.server_timing import server_timing


def reads_comments(scope: Scope) -> bool:
    """Whether the client accepts event streams by their name, and is not one without a name of its own in Go."""
    headers = Headers(scope=scope)
    accepts_events = "text/event-stream" in headers.get("accept", "").lower()
    return accepts_events and not headers.get("user-agent", "").startswith("Go-http-client")


def queue_words(place: QueuePlace, separator: str = " ") -> str:
    """``place=3 expected_seconds=4.2``; the seconds only where something is known."""
    expected = "" if place.expected_seconds is None else f"{separator}expected_seconds={place.expected_seconds:g}"
    return f"place={place.place}{expected}"


def queue_comment(place: QueuePlace) -> bytes:
    """Where a stream waits."""
    return f": queued {queue_words(place)}\n\n".encode()


async def last_comment(scope: Scope) -> bytes:
    """What the whole answer took, for the end of its events; nothing where nobody could tell."""
    account: TimeAccount | None = scope.get("state", {}).get("account")
    if account is None:
        return b""
    return b": server-timing %b\n\n" % server_timing(await account.tell("slow_reader"))
