"""Turnstile: lets only a few requests begin in one turn of the event loop, so that a crowd at the door does not stop
the streams inside nor the answers to ``/health``. ASGI middleware; knows no route.

When a request came, it notes in its state as ``arrival``: its deadline runs from then on."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from starlette.types import ASGIApp, Receive, Scope, Send

# A request costs half a millisecond to begin: parsing, checking, tokenizing.
NUM_REQUESTS_A_TURN = 4


class Turnstile:
    """Holds POST requests in their order of arrival; everything else passes at once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._num_begun = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on when it is its turn."""
        if scope["type"] == "http" and scope["method"] == "POST":
            scope.setdefault("state", {})["arrival"] = time.monotonic()
            if self._num_begun >= NUM_REQUESTS_A_TURN:
                turn = asyncio.get_running_loop().create_future()
                self._waiting.append(turn)
                await turn
            else:
                self._begin()
        await self._app(scope, receive, send)

    def _begin(self) -> None:
        if self._num_begun == 0:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._num_begun += 1

    def _next_turn(self) -> None:
        self._num_begun = 0
        while self._waiting and self._num_begun < NUM_REQUESTS_A_TURN:
            turn = self._waiting.popleft()
            if not turn.done():
                self._begin()
                turn.set_result(None)
