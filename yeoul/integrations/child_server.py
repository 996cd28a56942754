"""ChildServer: a ``yeoul serve`` below this process, for frameworks that run a model server as a part of theirs.

The child is the whole hierarchy as it is elsewhere, on a loopback port with a key of its own, and ends with this process.
Knows no framework; ``ray_serve`` calls it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future

from yeoul.config.build import build_settings
from yeoul.config.settings import Settings
from yeoul.errors import ConfigError, ProcessDeadError

_NOT_OURS = ("host", "port", "headless", "engine_address", "ssl_certfile", "ssl_keyfile")
_ADDRESS = "Address:"
_NUM_LAST_LINES = 20
# The child ends with the thread that started it, and not later than its parent.
_BEGIN = """
import ctypes, os, sys
parent = int(sys.argv.pop(1))
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != parent:
    sys.exit(1)
from yeoul.cli.main import main
main()
"""


class ChildServer:
    """One server; ``url`` is where it answers, ``key`` what it asks for, or None where its clients have keys of their own."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        """``settings`` by field names, as in a config file.

        Raises:
            ConfigError: an unknown name, or a value that cannot work; or one that is the framework's to choose.
        """
        for name in _NOT_OURS:
            if name in settings:
                raise ConfigError(f"{name} is chosen by whoever runs this server as a part; leave it out", param=name)
        self._given = {"page": False, **settings}  # nobody has the key to it
        self._settings: Settings = build_settings(settings, spell=str)
        self.key = None if self._settings.server.api_key else secrets.token_urlsafe(24)
        if self.key is not None:
            self._given["api_key"] = [self.key]
        self.url = ""
        self._process: subprocess.Popen[str] | None = None
        self._last_lines: deque[str] = deque(maxlen=_NUM_LAST_LINES)
        self._address: Future[str] = Future()

    @property
    def pid(self) -> int | None:
        """Of the web process, once it was started."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Returns when it takes requests.

        Raises:
            ProcessDeadError: it ended instead; with what it said last.
        """
        folder = tempfile.mkdtemp(prefix="yeoul-child-")
        try:
            path = os.path.join(folder, "settings.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(self._given, file)
            threading.Thread(target=self._run, args=(path,), name="yeoul serve", daemon=True).start()
            self.url = self._address.result()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def check(self) -> None:
        """Raises ProcessDeadError where it has ended; one that replaces its own processes is well."""
        if self._process is None or self._process.poll() is not None:
            raise self._death()

    def stop(self) -> None:
        """Lets it finish what it has, as long as its own settings say; nothing is left when this returns."""
        if (process := self._process) is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        times = self._settings.time
        try:
            process.wait(times.drain_delay_seconds + times.drain_timeout_seconds + 4 * times.stop_timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _run(self, path: str) -> None:
        """The thread that starts the child, which ends with it: passes on what the child writes, until that ends."""
        command = [sys.executable, "-c", _BEGIN, str(os.getpid()), "serve", "--config", path, "--host", "127.0.0.1"]
        try:
            process = subprocess.Popen(
                [*command, "--port", "0"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            self._address.set_exception(ProcessDeadError("Web", f"could not be started: {error}"))
            return
        self._process = process
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                print(line, end="", file=sys.stderr, flush=True)
                self._last_lines.append(line)
                if line.startswith(_ADDRESS) and not self._address.done():
                    self._address.set_result(line.removeprefix(_ADDRESS).strip())
        process.wait()
        if not self._address.done():
            self._address.set_exception(self._death())

    def _death(self) -> ProcessDeadError:
        code = self._process.poll() if self._process is not None else None
        said = "".join(self._last_lines).strip()
        return ProcessDeadError("Web", f"ended with {code}; the last that it said:\n{said}", exit_code=code)
