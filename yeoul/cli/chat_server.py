"""The server that ``yeoul chat`` starts for itself: how the chat holds it, and what runs in the child.

The child is the same web process as that of ``yeoul serve``, tied to the chat's life by the kernel: however the chat
ends, the child and all below it end with it. Knows nothing of the conversation.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from yeoul.config.settings import Settings
from yeoul.messages.outputs import EngineReady
from yeoul.messages.reports import ServerReady
from yeoul.progress import download_bars
from yeoul.transport.child_process import ChildProcess, enter_child
from yeoul.transport.child_reports import death_of, read_ready

_END_AFTER_SOCKETS_SECONDS = 0.5


class OwnServer(NamedTuple):
    """A server of the chat's own, which answers at ``url`` whoever has ``api_key``."""

    url: str
    api_key: str
    child: ChildProcess

    def check(self) -> None:
        """Raises ProcessDeadError if the server has ended; its sockets close a moment before its process does."""
        if self.child.wait(_END_AFTER_SOCKETS_SECONDS) is not None:
            raise death_of(self.child)


@contextlib.contextmanager
def own_server(settings: Settings) -> Iterator[OwnServer]:
    """A server on a free port of this host, with a key that nobody else has; at the end nothing of it is left.

    Raises:
        ConfigError: a setting or a model that cannot work.
        ProcessDeadError: the server ended instead.
    """
    api_key = secrets.token_urlsafe(24)
    server = msgspec.structs.replace(
        settings.server,
        host="127.0.0.1",
        port=0,
        api_key=[api_key],
        ssl_keyfile=None,
        ssl_certfile=None,
        ssl_ca_certs=None,
        ssl_cert_reqs=0,
    )
    time = msgspec.structs.replace(settings.time, drain_delay_seconds=0.0, drain_timeout_seconds=0.0)
    arguments = msgspec.msgpack.encode(msgspec.structs.replace(settings, server=server, time=time))
    with contextlib.closing(ChildProcess.spawn("yeoul.cli.chat_server", "Web", arguments)) as child:
        ready = asyncio.run(read_ready(child, time.engine_ready_timeout_seconds))
        assert isinstance(ready, ServerReady)
        try:
            yield OwnServer(ready.url, api_key, child)
        finally:
            if child.poll() is None:
                os.kill(child.pid, signal.SIGTERM)
                child.wait(2 * time.stop_timeout_seconds)


def main() -> int:
    """The child: serves until the chat ends it; its exit code."""
    from yeoul.web_process.server import run_server

    side = enter_child()
    # A session of its own: Ctrl-C in the terminal breaks off an answer, not the server.
    os.setsid()
    settings = msgspec.msgpack.decode(side.arguments, type=Settings)

    def report_ready(_: EngineReady | None, url: str, __: str | None) -> None:
        side.report(msgspec.msgpack.encode(ServerReady(url)))

    with download_bars() as on_progress:
        return run_server(settings, on_ready=report_ready, on_progress=on_progress)
