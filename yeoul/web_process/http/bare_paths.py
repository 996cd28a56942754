"""BarePaths: ``/chat/completions`` is ``/v1/chat/completions``, and so with every route of that version; knows no route.

Many clients are given the server's address without ``/v1``. ASGI, around all that looks at paths, which so see one.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

_VERSION = "/v1"


class BarePaths:
    """``routes`` are the paths of all routes: one of theirs is never taken for another's."""

    def __init__(self, app: ASGIApp, routes: Iterable[str]) -> None:
        self._app = app
        paths = set(routes)
        own = {_first(path) for path in paths if not path.startswith(f"{_VERSION}/")}
        self._firsts = {_first(path.removeprefix(_VERSION)) for path in paths if path.startswith(f"{_VERSION}/")} - own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] == "http" and _first(scope["path"]) in self._firsts:
            scope["path"] = _VERSION + scope["path"]
            scope["raw_path"] = _VERSION.encode() + scope["raw_path"]
        await self._app(scope, receive, send)


def _first(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else path
