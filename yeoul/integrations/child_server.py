"""ChildServer: a ``yeoul serve`` below this process, for frameworks that run a model server as a part of theirs.

The child is the whole hierarchy as it is elsewhere, on a loopback port with a key of its own, and ends with this process.
Knows no framework; ``ray_serve`` calls it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future

from yeoul.config.build import CONFIG_FILE_VARIABLE, build_settings, environment_config_file
from yeoul.config.fields import as_flag, setting_fields
from yeoul.config.settings import Settings
from yeoul.errors import ConfigError, ProcessDeadError

_FIXED = {"host": "127.0.0.1", "port": 0, "log_format": "text"}  # what it prints at its start is read here
_NOT_OURS = (*_FIXED, "headless", "engine_address", "ssl_certfile", "ssl_keyfile")
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
        """``settings`` by field names, as in a config file; the environment goes before them, as it does there.

        Raises:
            ConfigError: an unknown name, or a value that cannot work; or one that is the framework's to choose.
        """
        for name in _NOT_OURS:
            if name in settings:
                raise ConfigError(f"{name} is chosen by whoever runs this server as a part; leave it out", param=name)
        if (path := environment_config_file()) is not None:
            raise ConfigError(
                f"{CONFIG_FILE_VARIABLE} is {path}, and no server that runs as a part reads it; give its settings"
            )
        self._given = {"page": False, **settings}  # nobody has the key to it
        self._settings = _read(self._given)
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
        with _as_file(self._given) as path:
            threading.Thread(target=self._run, args=(path,), name="yeoul serve", daemon=True).start()
            self.url = self._address.result()

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
        command = [sys.executable, "-c", _BEGIN, str(os.getpid()), "serve", "--config", path]
        for name, value in _FIXED.items():
            command += [as_flag(name), str(value)]
        try:
            process = subprocess.Popen(
                command,
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
        try:
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    self._pass_on(line)
            process.wait()
        finally:
            if not self._address.done():
                self._address.set_exception(self._death())

    def _pass_on(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads standard error any longer, or it is closed
            print(line, end="", file=sys.stderr, flush=True)
        self._last_lines.append(line)
        if line.startswith(_ADDRESS) and not self._address.done():
            self._address.set_result(line.removeprefix(_ADDRESS).strip())

    def _death(self) -> ProcessDeadError:
        code = self._process.poll() if self._process is not None else None
        said = "".join(self._last_lines).strip()
        return ProcessDeadError("Web", f"ended with {code}; the last that it said:\n{said}", exit_code=code)


@contextlib.contextmanager
def _as_file(given: Mapping[str, object]) -> Iterator[str]:
    """A config file for as long as somebody has to read it; there are secrets in it."""
    with tempfile.TemporaryDirectory(prefix="yeoul-child-", ignore_cleanup_errors=True) as folder:
        path = os.path.join(folder, "settings.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(given, file)
        yield path


def _read(given: Mapping[str, object]) -> Settings:
    """As the child reads them, with the same environment.

    Raises:
        ConfigError: see ``ChildServer``.
    """
    with _as_file(given) as path:
        try:
            settings = build_settings(_FIXED, path)
        except ConfigError as error:  # to the user there is no such file
            words = error.message.replace(f"the config file {path} sets", "the settings have").replace(f" in {path}", "")
            raise ConfigError(words, param=error.param) from None
    for name in _NOT_OURS:
        field = setting_fields()[name]
        if name not in _FIXED and getattr(getattr(settings, field.group), name):
            raise ConfigError(
                f"{field.variable} is set, and a server that runs as a part cannot have it; unset it", param=name
            )
    return settings
