"""HttpServer: uvicorn around the application, stopped by us and not by signals; knows nothing of the engine's life."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import socket
import ssl
from collections.abc import Generator

import uvicorn

from yeoul.web_process.app import build_app
from yeoul.web_process.http_protocol import BoundedHttpProtocol
from yeoul.web_process.server_context import ServerContext

_SECONDS_BETWEEN_TICKS = 1.0


class HttpServer(uvicorn.Server):
    """Serves on a socket that is already bound, on the running loop. ``serve`` returns after ``stop``."""

    def __init__(self, context: ServerContext, tls: ssl.SSLContext | None = None) -> None:
        settings = context.settings
        super().__init__(
            uvicorn.Config(
                build_app(context),
                http=functools.partial(BoundedHttpProtocol, settings),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=settings.server.log_requests,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=math.ceil(settings.time.request_timeout_seconds),
            )
        )
        self.config.load()
        self.config.ssl = tls
        if settings.server.log_requests:
            logging.getLogger("uvicorn.access").setLevel(logging.INFO)
        self._stopping = asyncio.Event()

    def start(self, listener: socket.socket) -> asyncio.Task[None]:
        """Accepts connections from the loop's next turn on."""
        return asyncio.create_task(self.serve([listener]), name="uvicorn")

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
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _SECONDS_BETWEEN_TICKS)
