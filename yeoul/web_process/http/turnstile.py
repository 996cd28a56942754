"""Turnstile: lets only a few requests begin in one turn of the event loop, so that a crowd at the door does not stop
the streams inside nor the answers to ``/health``. ASGI middleware; knows no route.

When a request came, it notes in its state as ``arrival``: its deadline runs from then on."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Receive, Scope, Send

# A request costs half a millisecond to begin: parsing, checking, tokenizing.
NUM_REQUESTS_A_TURN = 4


class Turnstile:
    """Holds POST requests in their order of arrival; everything else passes at once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._places = asyncio.Semaphore(NUM_REQUESTS_A_TURN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on when it is its turn; it has its place until the loop's next one."""
        if scope["type"] == "http" and scope["method"] == "POST":
            scope.setdefault("state", {})["arrival"] = time.monotonic()
            await self._places.acquire()
            asyncio.get_running_loop().call_soon(self._places.release)
        await self._app(scope, receive, send)
