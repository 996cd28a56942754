"""Workers elsewhere die, or their links are cut and mended, while streams run: each ends as if nothing had happened."""

from __future__ import annotations

import os
import signal

import pytest

from tests.chaos.test_kill_matrix import assert_drains, assert_same, serve, wait_running
from tests.chaos.traffic import MIXED, finish, send
from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.running_server import RunningServer, wait_gone
from tests.tcp_cut import cut, tcp_links_of

CUT = "a cut link"
CELLS = [
    pytest.param(
        victim,
        phase,
        marks=pytest.mark.chaos if phase == "prefill" else pytest.mark.long if victim != CUT else [],
    )
    for victim in ("Worker_0", "Worker_1", "EngineCore", CUT)
    for phase in ("prefill", "decode")
]


def hit(server: RunningServer, victim: str) -> int:
    """The pid of whoever is to be gone then."""
    pids = server.by_title()
    if victim != CUT:
        os.kill(pids[f"yeoul::{victim}"], signal.SIGKILL)
        return pids[f"yeoul::{victim}"]
    worker = pids["yeoul::Worker_1"]
    cut(worker, next(iter(tcp_links_of(worker))))
    return worker


@pytest.mark.parametrize(("victim", "phase"), CELLS)
def test_streams_go_on_to_the_same_last_character(victim, phase, undisturbed):
    with serve(2, "--distributed-executor-backend", "loopback") as server:
        clients = send(server.url, MIXED)
        if phase == "decode":
            assert all(client.started.wait(20.0) for client in clients)
        else:
            wait_running(server)
        gone = hit(server, victim)
        assert_same(finish(clients), undisturbed, server)
        assert wait_gone([gone], 5.0) == set()
        assert len(server.tree()) == 4
        assert_drains(server)
