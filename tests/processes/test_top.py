"""``yeoul top`` on a real terminal of 80 by 24, at a real server: it shows, opens, kills, and outlives the server."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time

import pytest

from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.processes.streamed_text import streamed_text
from tests.running_server import YEOUL, RunningServer, free_port

LIMIT_SECONDS = 60.0
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\([A-Z]|\r")


class Terminal:
    """``yeoul top`` in a pseudo-terminal. What it writes is read all the time; ``until`` waits for a text."""

    def __init__(self, url: str, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        variables = {**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1", **environment}
        for name in ("COLUMNS", "LINES"):
            variables.pop(name, None)
        self.process = subprocess.Popen(
            [str(YEOUL), "top", url], stdin=theirs, stdout=theirs, stderr=theirs, env=variables, start_new_session=True
        )
        os.close(theirs)
        self.written = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10.0)
        os.close(self._ours)

    def press(self, keys: str) -> None:
        """From here on only what is written afterwards counts."""
        self.written = ""
        os.write(self._ours, keys.encode())

    def until(self, text: str) -> str:
        """Reads until this has been written; what was since the last key, on one line, without what places it."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while text not in (shown := " ".join(CONTROLS.sub("", self.written).split())):
            assert time.monotonic() < deadline, f"{text!r} was not shown:\n{shown[-4000:]}"
            if select.select([self._ours], [], [], 0.5)[0] and not self._read():
                raise AssertionError(f"yeoul top ended before it showed {text!r}:\n{shown[-4000:]}")
        return shown

    def end(self) -> int:
        """Its exit code, everything that it still writes read."""
        while self._read():
            pass
        assert "Traceback" not in self.written
        return self.process.wait(LIMIT_SECONDS)

    def _read(self) -> bool:
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # EIO: nobody has the other end any longer
            return False
        self.written += data.decode(errors="replace")
        return bool(data)


def test_a_worker_is_killed_from_the_terminal_and_the_stream_goes_on():
    with RunningServer("--allow-kill", "--fake-step-seconds", "0.02") as server, Terminal(server.url) as top:
        expected = streamed_text(server, 120)
        top.until("Worker_0")
        begun, texts = threading.Event(), []
        reader = threading.Thread(target=lambda: texts.append(streamed_text(server, 120, begun)))
        reader.start()
        assert begun.wait(LIMIT_SECONDS)
        pid = server.by_title()["yeoul::Worker_0"]
        top.press("\x1b[B\x1b[B")
        top.until("/v1/completions")
        top.press("k")
        top.until(f"Kill Worker_0 (pid {pid})?")
        top.press("y")
        top.until("Worker_0 was killed")
        top.until("SIGKILL")
        reader.join(LIMIT_SECONDS)
        assert texts == [expected]
        top.press("s")
        top.until("WorkerProc.run")
        top.press("\x1bl")
        top.until("the workers were replaced")
        top.press("\x1b\t\r")
        top.until("where its time went")
        top.press("q")
        assert top.end() == 0
        assert "\x1b[?1049l" in top.written, "the screen is as it was before"


@pytest.mark.long
def test_a_server_that_is_not_there_is_waited_for_and_its_end_is_told():
    port = free_port()
    with Terminal(f"127.0.0.1:{port}", YEOUL_API_KEY="secret") as top:
        top.until("no answer since")
        with RunningServer("--api-key", "secret", port=port, wait=False) as server:
            top.press("x")
            top.until("ready")
            top.press("k")
            top.until("Kill Web, the server itself? It will refuse.")
            top.press("y")
            top.until("start it with --allow-kill")
            server.process.kill()
            server.process.wait(10.0)
            top.press("x")
            top.until("no answer since")
            top.until("what follows is what it said")
        top.press("\x03")
        assert top.end() == 0


def test_a_signal_leaves_the_terminal_as_it_was():
    with Terminal(f"127.0.0.1:{free_port()}") as top:
        top.until("no answer since")
        top.process.terminate()
        assert top.end() == 128 + signal.SIGTERM
        assert "\x1b[?1049l" in top.written


@pytest.mark.parametrize("arguments", [[], ["http://127.0.0.1:1"]])
def test_without_a_terminal_it_says_that_it_needs_one(arguments):
    result = subprocess.run(
        [str(YEOUL), "top", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60.0
    )
    assert result.returncode == 2
    assert result.stderr.startswith("yeoul: yeoul top needs a terminal")
    assert len(result.stderr.splitlines()) == 1
