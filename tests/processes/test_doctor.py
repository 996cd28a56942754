"""``yeoul doctor`` as it is started: in a terminal, beside a server, and in places where little is as it should be."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import termios
from typing import Any

import pytest

from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.running_server import YEOUL, RunningServer

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare for namespaces of its own"
)


def in_terminal(columns: int, *arguments: str) -> tuple[int, list[str]]:
    """The exit code and the lines of it in a terminal so wide."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen([YEOUL, "doctor", *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=variables)
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:  # the terminal's way to say that nobody has it open any more
        pass
    os.close(ours)
    return process.wait(60), written.decode().replace("\r", "").splitlines()


def report_of(*arguments: str, prefix: tuple[str, ...] = (), **variables: str) -> tuple[int, dict[str, Any], str]:
    """The exit code, the report, and what was complained of."""
    done = subprocess.run(
        [*prefix, str(YEOUL), "doctor", "--json", *arguments],
        capture_output=True,
        env={**os.environ, **variables},
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, json.loads(done.stdout), done.stderr.decode()


def test_a_server_and_its_machine_in_a_terminal_of_60_columns():
    with RunningServer("--api-key", "sk-very-secret") as server:
        _, lines = in_terminal(60, server.url, "--api-key", "sk-very-secret", "--port", str(server.port), "--model", "fake")
    told = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 60
    assert all(f"{name} (" in told for name in ("Web", "EngineCore", "Worker_0"))
    assert "/ready is 200" in told
    assert f"is a Yeoul server's (yeoul::Web, pid {server.pid})" in told
    assert "Traceback" not in told
    assert "sk-very-secret" not in told


@pytest.mark.long
def test_a_server_that_was_stopped_is_a_fault():
    with RunningServer() as server:
        os.kill(server.by_title()["yeoul::Worker_0"], signal.SIGSTOP)
        code, report, _ = report_of(server.url, "--model", "fake")
        assert code == 1
        assert any("Worker_0" in one["found"] and "stopped" in one["found"] for one in report["checks"])
        os.kill(server.pid, signal.SIGSTOP)
        code, report, _ = report_of(server.url, "--model", "fake")
        assert code == 1
        assert "does not answer" in report["checks"][-1]["found"]


PLACES: dict[str, tuple[str, ...]] = {
    "next to nothing": (
        *("bash", "-c", 'ulimit -n 64; exec "$@" <&-', "shell"),
        *("env", "-u", "HOME", "-u", "XDG_CACHE_HOME", "LC_ALL=C", "PYTHONUTF8=0", "PYTHONIOENCODING=ascii"),
    ),
    "nothing fits": (
        *("env", "-u", "XDG_CACHE_HOME", "HOME=/proc", "TMPDIR=/gone"),
        *("YEOUL_PORT=x", "YEOUL_APIKEY=y", "YEOUL_CONFIG=/gone"),
    ),
    "little memory": ("bash", "-c", 'ulimit -v 1500000; exec "$@"', "shell"),
}


@pytest.mark.long
@pytest.mark.parametrize("prefix", PLACES.values(), ids=PLACES)
def test_an_odd_place_gives_a_report_and_no_traceback(prefix):
    code, report, complaints = report_of("--port", "1", "--model", "/gone/модель", prefix=prefix)
    assert code == 1
    assert "Traceback" not in complaints
    assert {one["section"] for one in report["checks"]} == {"machine", "room", "software", "left over", "model", "server"}


@pytest.mark.long
@needs_root
@pytest.mark.parametrize(
    "script",
    [
        "mount --bind /dev/null /proc/cpuinfo && mount -t tmpfs none /sys && mount -t tmpfs -o ro none /dev/shm",
        # what lies in /tmp, this repository perhaps, is still there
        "mount --bind /tmp /tmp && mount -o remount,bind,ro /tmp && "
        "mount -t tmpfs none /sys/fs/cgroup && mount --bind /dev/null /proc/meminfo",
    ],
    ids=["no flags, no sys, no shared memory", "no temporary folder, no control groups, no meminfo"],
)
def test_a_container_that_hides_much_gives_a_report_and_no_traceback(script):
    prefix = ("unshare", "-m", "bash", "-c", f'mount --make-rprivate / && {script} && exec "$@"', "shell")
    code, report, complaints = report_of("--model", "fake", prefix=prefix, XDG_RUNTIME_DIR="/gone")
    assert "Traceback" not in complaints
    assert code in (0, 1)
    assert report["checks"]


@pytest.mark.long
def test_a_reader_that_has_had_enough_ends_it_quietly():
    done = subprocess.run(
        ["bash", "-c", f"{YEOUL} doctor --model fake | head -n 1"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("yeoul ")
    assert done.stderr == ""
