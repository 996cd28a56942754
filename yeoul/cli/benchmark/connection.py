"""Connections to one server, kept and used again; knows nothing of what is asked. Called by ``client_process``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

from yeoul.cli.benchmark.http_response import BadResponseError, HttpResponse
from yeoul.cli.server_address import trusted_authorities

OnBody = Callable[[int, bytes, float], None]
"""Called with the status, a piece of the body, and when it was read (of ``time.perf_counter``); at the end at the latest."""

_CONNECT_TIMEOUT_SECONDS = 10.0


class Connection(asyncio.Protocol):
    """One connection, on which one exchange goes on at a time. Pieces of a body get their time as soon as they are read."""

    def __init__(self) -> None:
        self.is_lost = False
        self.has_answered = False
        self._transport: asyncio.Transport | None = None
        self._ended: asyncio.Future[None] | None = None  # of the exchange that goes on
        self._response: HttpResponse
        self._on_body: OnBody
        self._last_heard = 0.0

    async def exchange(self, request: bytes, on_body: OnBody, timeout_seconds: float) -> bool:
        """Sends ``request`` and hands on its response's body; whether the connection can be used again.

        Raises:
            BadResponseError: the response is none, or ended in its middle.
            TimeoutError: nothing came for ``timeout_seconds``.
        """
        assert self._transport is not None
        self._response, self._on_body, self.has_answered = HttpResponse(), on_body, False
        self._ended, self._last_heard = asyncio.get_running_loop().create_future(), time.perf_counter()
        self._transport.write(request)
        try:
            while not self._ended.done():
                rest = self._last_heard + timeout_seconds - time.perf_counter()
                if rest <= 0:
                    raise TimeoutError(f"the server sent nothing for {timeout_seconds:g} s")
                await asyncio.wait([self._ended], timeout=rest)
            self._ended.result()
        finally:
            self._ended = None
        return self._response.keeps_alive and not self.is_lost

    def close(self) -> None:
        """Closes at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._last_heard = now = time.perf_counter()
        if self._ended is None or self._ended.done():
            self.close()  # nothing was asked: this server is out of step
            return
        self.has_answered = True
        try:
            body = self._response.feed(data)
            if body or self._response.is_complete:
                self._on_body(self._response.status, body, now)
        except Exception as error:
            self._ended.set_exception(error)
            return
        if self._response.is_complete:
            self._ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.is_lost = True
        if self._ended is None or self._ended.done():
            return
        try:
            self._response.end()
            self._ended.set_result(None)
        except BadResponseError as error:
            error.__cause__ = exc
            self._ended.set_exception(error)


class ConnectionPool:
    """The connections of one client to the server at ``url``."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        parts = urlsplit(url)
        self.path = parts.path.rstrip("/")
        self.authority = parts.netloc.rpartition("@")[2]
        self._host = parts.hostname or ""
        self._ssl = trusted_authorities() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._ssl else 80)
        self._timeout_seconds = timeout_seconds
        self._idle: list[Connection] = []

    async def exchange(self, request: bytes, on_body: OnBody) -> None:
        """Sends ``request`` on an idle connection, or a new one; a kept one that the server has just closed is replaced.

        Raises:
            OSError, TimeoutError: no connection could be made, or nothing came.
            BadResponseError: as of ``Connection.exchange``.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.is_lost:
                continue
            try:
                await self._exchange_on(connection, request, on_body)
                return
            except BadResponseError:
                if connection.has_answered:
                    raise
        await self._exchange_on(await self._connect(), request, on_body)

    def close(self) -> None:
        """Closes the idle connections."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_CONNECT_TIMEOUT_SECONDS):
            _, connection = await loop.create_connection(Connection, self._host, self._port, ssl=self._ssl)
        return connection

    async def _exchange_on(self, connection: Connection, request: bytes, on_body: OnBody) -> None:
        is_kept = False
        try:
            is_kept = await connection.exchange(request, on_body, self._timeout_seconds)
        finally:
            if is_kept:
                self._idle.append(connection)
            else:
                connection.close()
