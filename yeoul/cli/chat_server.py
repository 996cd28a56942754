"""The server that ``yeoul chat`` starts for itself: how the chat holds it, and what runs in the child.

The child is the same web process as that of ``yeoul serve``, tied to the chat's life by the kernel: however the chat
ends, the child and all below it end with it. Knows nothing of the conversation.
"""

from __future__ import annotations

import os
import secrets
import signal

import msgspec

from yeoul.config.settings import Settings
from yeoul.errors import ConfigError, ProcessDeadError, YeoulError
from yeoul.messages.outputs import EngineReady
from yeoul.messages.reports import Failure
from yeoul.progress import download_bars
from yeoul.transport.child_process import ChildProcess, enter_child

_END_AFTER_SOCKETS_SECONDS = 0.5


class ServerReady(msgspec.Struct, frozen=True, tag="server_ready"):
    """The child's server answers at ``url``."""

    url: str


class OwnServer:
    """A server of the chat's own, on a free port of this host, with a key that nobody else has. Use it with ``with``."""

    def __init__(self, settings: Settings) -> None:
        self.api_key = secrets.token_urlsafe(24)
        self.url = ""
        self._settings = msgspec.structs.replace(
            settings,
            server=msgspec.structs.replace(
                settings.server,
                host="127.0.0.1",
                port=0,
                api_key=[self.api_key],
                ssl_keyfile=None,
                ssl_certfile=None,
                ssl_ca_certs=None,
                ssl_cert_reqs=0,
            ),
            time=msgspec.structs.replace(settings.time, drain_delay_seconds=0.0, drain_timeout_seconds=0.0),
        )
        self._child: ChildProcess | None = None

    def __enter__(self) -> OwnServer:
        """Starts the child and waits until it serves.

        Raises:
            ConfigError: a setting or a model that cannot work.
            ProcessDeadError: the server ended instead.
        """
        self._child = ChildProcess.spawn("yeoul.cli.chat_server", "Web", msgspec.msgpack.encode(self._settings))
        try:
            self.url = self._wait_ready(self._child)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the child and all below it; nothing is left when this returns."""
        if self._child is None:
            return
        child, self._child = self._child, None
        if self.url and child.poll() is None:  # before it was ready there is nothing to end in order
            os.kill(child.pid, signal.SIGTERM)
            child.wait(2 * self._settings.time.stop_timeout_seconds)
        child.close()

    def check(self) -> None:
        """Raises ProcessDeadError if the server has ended; its sockets close a moment before its process does."""
        if self._child is not None and self._child.wait(_END_AFTER_SOCKETS_SECONDS) is not None:
            raise self._death_of(self._child)

    def _wait_ready(self, child: ChildProcess) -> str:
        limit = self._settings.time.engine_ready_timeout_seconds
        payload = child.read_report(limit)
        report = None if payload is None else msgspec.msgpack.decode(payload, type=ServerReady | Failure)
        if isinstance(report, ServerReady):
            return report.url
        if report is None:
            raise self._death_of(child)
        raise ConfigError(report.cause) if report.is_user_error else ProcessDeadError(report.role, report.cause)

    def _death_of(self, child: ChildProcess) -> YeoulError:
        code = child.wait(self._settings.time.stop_timeout_seconds)
        payload = child.read_report(0.0)
        if payload is not None:
            failure = msgspec.msgpack.decode(payload, type=Failure)
            return ProcessDeadError(failure.role, failure.cause, exit_code=code)
        return ProcessDeadError(child.role, child.describe_exit(), exit_code=code)


def main() -> int:
    """The child: serves until the chat ends it; its exit code."""
    from yeoul.web_process.server import run_server

    side = enter_child()
    # A session of its own: Ctrl-C in the terminal breaks off an answer, not the server.
    os.setsid()
    settings = msgspec.msgpack.decode(side.arguments, type=Settings)

    def report_ready(_: EngineReady, url: str) -> None:
        side.report(msgspec.msgpack.encode(ServerReady(url)))

    with download_bars() as on_progress:
        try:
            return run_server(settings, on_ready=report_ready, on_progress=on_progress)
        except YeoulError as error:
            # The chat shows it in a line; without this the child would print its traceback into the conversation.
            side.report_failure(error)
            return 1
