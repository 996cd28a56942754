"""BoundedHttpProtocol: uvicorn's connection with limits on what a client may send before its request begins.

Uvicorn waits for ever for the rest of a request, and keeps headers of any length. Knows no application.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 64 << 10

# The name under which a request's scope has the connection's own ``send``, without what middleware has put around it.
DIRECT_SEND = "yeoul.direct_send"


class BoundedHttpProtocol(HttpToolsProtocol):
    """A request has to be complete within uvicorn's keep-alive time, its headers within ``MAX_HEADER_BYTES``."""

    _num_header_bytes: int | None = None
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request has to come in time."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any longer."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Passes the bytes on, unless they are more headers than anybody needs."""
        if self._num_header_bytes is not None:
            self._num_header_bytes += len(data)
        super().data_received(data)
        if self._num_header_bytes is not None and self._num_header_bytes > MAX_HEADER_BYTES:
            self.send_400_response(f"The headers have more than {MAX_HEADER_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """A request begins; bytes that came with its beginning are not counted."""
        super().on_message_begin()
        self._num_header_bytes = 0
        self._start_clock()

    def on_headers_complete(self) -> None:
        """What follows is body, whose length the routes limit."""
        self._num_header_bytes = None
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:
            self.scope["extensions"] = {DIRECT_SEND: self.cycle.send}  # type: ignore[dict-item]

    def on_message_complete(self) -> None:
        """The request is complete; how long its answer takes is not the client's fault."""
        self._stop_clock()
        super().on_message_complete()

    def _start_clock(self) -> None:
        self._stop_clock()
        self._deadline = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
