"""server_timing(): what a request's time went to, as a header and as a comment of an event stream; knows no cause.

Source: https://www.w3.org/TR/server-timing/#the-server-timing-header-field
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope

from yeoul.web_process.engine.time_account import TimeAccount

_LEAST_SECONDS = 5e-7  # that show


def server_timing(causes: dict[str, float]) -> bytes:
    """``queued;dur=12.3, ..., total;dur=20.1``: milliseconds."""
    told = {name: seconds for name, seconds in causes.items() if seconds >= _LEAST_SECONDS}
    told["total"] = sum(causes.values())
    return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in told.items()).encode()


async def last_comment(scope: Scope) -> bytes:
    """The same of the whole answer, for the end of its events; nothing where nobody could tell."""
    account: TimeAccount | None = scope.get("state", {}).get("account")
    if account is None:
        return b""
    return b": server-timing %b\n\n" % server_timing(await account.tell("slow_reader"))


def reads_comments(scope: Scope) -> bool:
    """Whether the client says that it reads event streams as the standard has them.

    Many read lines, and take what is no ``data: {...}`` for broken; they accept anything, or JSON.
    """
    return "text/event-stream" in Headers(scope=scope).get("accept", "").lower()
