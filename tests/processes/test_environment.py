"""What a start asks of its environment: docs/environment.md has a row for each, and the server serves where it can."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from itertools import chain
from pathlib import Path

import httpx
import pytest

from tests.running_server import RunningServer

PAGE = Path(__file__).parents[2] / "docs" / "environment.md"
IS_ROOT = os.geteuid() == 0 and shutil.which("unshare") is not None
needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root and unshare for namespaces of its own")
UNKNOWN_USER = ["unshare", "-U", "--map-user=54321", "--map-group=54321"]


def in_shell(script: str) -> list[str]:
    """What comes behind is started by this line of shell as ``"$@"``."""
    return ["bash", "-c", script, "shell"]


def in_mounts(script: str) -> list[str]:
    """The same, where mounts are the test's own."""
    return ["unshare", "-m", *in_shell(f'mount --make-rprivate / && {script} && exec "$@"')]


# Row of the page -> what a server is started under there.
SERVES = {
    "no standard input": in_shell('exec "$@" <&-'),
    "no standard output": in_shell('exec "$@" >&-'),
    "no standard error": in_shell('exec "$@" 2>&-'),
    "no locale": ["env", "-u", "LANG", "LC_ALL=C"],
    "a strict umask": in_shell('umask 077; exec "$@"'),
    "few descriptors": in_shell('ulimit -n 256; exec "$@"'),
    "no core dumps, no locked memory": in_shell('ulimit -c 0; ulimit -l 0; exec "$@"'),
    "a working folder that is gone": in_shell('d=$(mktemp -d); cd $d; rmdir $d; exec "$@"'),
    "no home": ["env", "-u", "HOME", "-u", "XDG_CACHE_HOME"],
    "a home that cannot be written to": ["env", "-u", "XDG_CACHE_HOME", "HOME=/proc"],
    "TMPDIR that does not exist": ["env", "TMPDIR=/gone"],
    "XDG_RUNTIME_DIR that does not exist": ["env", "XDG_RUNTIME_DIR=/gone"],
    "a long XDG_RUNTIME_DIR": ["env", "XDG_RUNTIME_DIR=/tmp/" + "x" * 100],
    "foreign YEOUL_ variables": ["env", "YEOUL_HOME=/opt", "YEOUL_VERSION=1"],
}
SERVES_IN_NAMESPACES = {
    "a user id that no file knows": ["env", "-u", "HOME", *UNKNOWN_USER],
    "no /dev/shm": in_mounts("mount -t tmpfs -o ro none /dev/shm"),
    "a read-only root with a temporary folder": [
        *in_mounts("mount -o remount,bind,ro / && mount -t tmpfs none /dev/shm"),
        *("env", "TMPDIR=/dev/shm"),
    ],
    "no control groups": in_mounts("mount -t tmpfs none /sys/fs/cgroup"),
}

# Rows that do not exclude each other, so that few starts see all of them; `make test-long` has each row alone.
TOGETHER = {
    "next to nothing": [
        "a working folder that is gone", "no standard input", "no standard output", "no locale", "a strict umask",
        "few descriptors", "no core dumps, no locked memory", "no home", "TMPDIR that does not exist",
        "a long XDG_RUNTIME_DIR", "foreign YEOUL_ variables",
    ],
    "no log": ["no standard error", "a home that cannot be written to", "XDG_RUNTIME_DIR that does not exist"],
}  # fmt: skip
TOGETHER_IN_NAMESPACES = {
    "nothing is mounted": ["no /dev/shm", "no control groups", "a user id that no file knows"],
    "nothing can be written": ["a read-only root with a temporary folder"],
}


def complete(server: RunningServer) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/completions", json={"prompt": "hi", "max_tokens": 4, "seed": 1}, timeout=30)


def check_serves(prefix: list[str]) -> None:
    server = RunningServer("--max-num-connections", "100")
    server.command = [*prefix, *server.command]
    with server:
        assert complete(server).status_code == 200
        os.kill(server.by_title()["yeoul::Worker_0"], signal.SIGKILL)  # a replacement asks the same of it
        assert complete(server).status_code == 200
        assert "Traceback" not in server.log()
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait_exit(20) == 0


@pytest.mark.parametrize("rows", TOGETHER.values(), ids=TOGETHER)
def test_it_serves_where_all_of_this_comes_together(rows):
    check_serves([word for row in rows for word in SERVES[row]])


@needs_root
@pytest.mark.parametrize("rows", TOGETHER_IN_NAMESPACES.values(), ids=TOGETHER_IN_NAMESPACES)
def test_it_serves_in_a_container_where_all_of_this_comes_together(rows):
    check_serves([word for row in rows for word in SERVES_IN_NAMESPACES[row]])


@pytest.mark.long
@pytest.mark.parametrize("name", SERVES)
def test_it_serves_where_this_is_all_there_is(name):
    check_serves(SERVES[name])


@pytest.mark.long
@needs_root
@pytest.mark.parametrize("name", SERVES_IN_NAMESPACES)
def test_it_serves_in_a_container_that_is_like_this(name):
    check_serves(SERVES_IN_NAMESPACES[name])


@needs_root
def test_without_any_folder_for_sockets_the_start_says_so():
    nowhere = in_mounts(
        "for mount in / /tmp /var/tmp; do mountpoint -q $mount && mount -o remount,bind,ro $mount; done; true"
    )
    server = RunningServer("--max-num-connections", "100")
    found = subprocess.run(
        [*nowhere, "env", "XDG_RUNTIME_DIR=/gone", "TMPDIR=/gone", *server.command],
        capture_output=True, text=True, timeout=60, check=False, cwd="/",
    )  # fmt: skip
    assert found.returncode == 2
    assert "set XDG_RUNTIME_DIR" in found.stderr


def test_nothing_is_left_in_the_working_folder_of_who_has_no_home(tmp_path):
    server = RunningServer()
    server.command = ["env", "-u", "HOME", "-u", "XDG_CACHE_HOME", "-C", str(tmp_path), *server.command]
    with server:
        assert complete(server).status_code == 200
    assert list(tmp_path.iterdir()) == []


def model_len(server: RunningServer) -> int:
    return int(httpx.get(f"{server.url}/v1/models", timeout=30).json()["data"][0]["max_model_len"])


def test_where_nobody_asked_for_a_context_it_is_the_longest_that_fits_and_stays_so():
    with RunningServer("--kv-cache-memory-bytes", str(1024 * 8)) as server:
        assert model_len(server) == 1024
        assert "room for 1024 of the" in server.log()
        os.kill(server.by_title()["yeoul::EngineCore"], signal.SIGKILL)
        assert complete(server).status_code == 200
        assert model_len(server) == 1024


def test_a_context_that_was_asked_for_and_does_not_fit_is_refused_with_the_one_that_does():
    server = RunningServer("--kv-cache-memory-bytes", str(1024 * 8), "--max-model-len", "2048")
    found = subprocess.run(server.command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 2
    assert "--max-model-len to at most 1024" in found.stderr


def test_the_page_has_a_row_for_each():
    rows = set(re.findall(r"^\| ([^|]+?) \|", PAGE.read_text(), re.MULTILINE))
    assert {*SERVES, *SERVES_IN_NAMESPACES} <= rows
    assert sorted(chain(*TOGETHER.values())) == sorted(SERVES)
    assert sorted(chain(*TOGETHER_IN_NAMESPACES.values())) == sorted(SERVES_IN_NAMESPACES)
