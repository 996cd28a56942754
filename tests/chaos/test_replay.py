"""``yeoul replay`` runs what was computed at a death again: what kills by itself kills again, and a chance does not."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.chaos.test_kill_matrix import QUICK_TO_NOTICE, wait_ready_again
from tests.chaos.traffic import MIXED, SLOW, finish, send
from tests.running_server import YEOUL, RunningServer


def replay(server: RunningServer) -> subprocess.CompletedProcess[str]:
    path = sorted(server.reports.iterdir())[-1]
    return subprocess.run([YEOUL, "replay", str(path)], capture_output=True, text=True, timeout=60)


def test_what_kills_by_itself_kills_again():
    with RunningServer("--fake-poison", "--recovery-report-contents", *SLOW, *QUICK_TO_NOTICE) as server:
        finish(send(server.url, [{"prompt": [65, 511], "max_tokens": 5}]))
        again = replay(server)
        assert again.returncode == 1
        assert "Worker_0 was killed by signal 11 (SIGSEGV)" in again.stdout
        last = again.stderr.strip().splitlines()[-1]
        assert last == "yeoul: Worker_0 was killed by signal 11 (SIGSEGV) (yeoul doctor looks at this machine)"


@pytest.mark.parametrize("victim", [pytest.param("EngineCore", marks=pytest.mark.long), "Worker_0"])
def test_what_was_killed_by_chance_ends_well(victim):
    with RunningServer(*SLOW) as server:
        clients = send(server.url, MIXED)
        assert all(client.started.wait(20.0) for client in clients)
        os.kill(server.by_title()[f"yeoul::{victim}"], signal.SIGKILL)
        wait_ready_again(server)
        finish(clients)
        again = replay(server)
        assert again.returncode == 0, again.stderr
        assert "zeros of the same number" in again.stdout
        assert again.stdout.splitlines()[-1] == "nothing died this time"


def test_a_file_that_is_no_report_is_the_users_mistake(tmp_path):
    for name, content in (("none.json", None), ("other.json", b"{}"), ("garbage.json", os.urandom(100))):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        done = subprocess.run([YEOUL, "replay", str(path)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert name in done.stderr
        assert "Traceback" not in done.stderr
