"""HttpServer: uvicorn around the application, stopped by us and not by signals; knows nothing of the engine's life."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import socket
import time
from collections.abc import Generator, Sequence

import uvicorn

from yeoul.web_process.app import build_app
from yeoul.web_process.http.http_protocol import BoundedHttpProtocol
from yeoul.web_process.http.origins import is_loopback
from yeoul.web_process.http.tls import ServerTls
from yeoul.web_process.server_context import ServerContext

_SECONDS_BETWEEN_TICKS = 1.0


class HttpServer(uvicorn.Server):
    """Serves on sockets that are already bound, on the running loop. ``serve`` returns after ``stop``."""

    def __init__(self, context: ServerContext, listeners: Sequence[socket.socket], tls: ServerTls | None = None) -> None:
        settings = context.settings
        self.context = context
        self._listeners = list(listeners)
        super().__init__(
            uvicorn.Config(
                build_app(context, is_on_loopback=all(is_loopback(one.getsockname()[0]) for one in listeners)),
                http=functools.partial(BoundedHttpProtocol, settings),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=math.ceil(settings.time.request_timeout_seconds),
            )
        )
        self.config.load()
        self.config.ssl = None if tls is None else tls.context
        self._stopping = asyncio.Event()
        context.traffic.connections = self.server_state.connections

    def start(self) -> asyncio.Task[None]:
        """Accepts connections from the loop's next turn on."""
        return asyncio.create_task(self.serve(self._listeners), name="uvicorn")

    def part_with_clients(self) -> None:
        """From now on each answer is its connection's last and says so; idle connections stay, for what is on its way."""
        closing = (b"connection", b"close")
        self.config.encoded_headers.append(closing)  # what the next tick makes the default headers of
        self.server_state.default_headers = [*self.server_state.default_headers, closing]

    def stop(self, grace_seconds: float) -> None:
        """Takes no more connections; what is being answered has ``grace_seconds`` to be read by its client."""
        self.config.timeout_graceful_shutdown = grace_seconds  # type: ignore[assignment]
        self.should_exit = True
        if grace_seconds <= 0:
            self.force_exit = True
        self._stopping.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Uvicorn's hook to take the signals over; they are ``server.py``'s."""
        yield

    async def main_loop(self) -> None:
        """Uvicorn's loop, which keeps the Date header, at a tick a second instead of ten, and stopped without delay."""
        while not await self.on_tick(0):
            began = time.monotonic()
            try:
                await asyncio.wait_for(self._stopping.wait(), _SECONDS_BETWEEN_TICKS)
            except TimeoutError:
                self.context.traffic.note_lag(time.monotonic() - began - _SECONDS_BETWEEN_TICKS)
