"""Workers of pipeline stages die or hang while streams run through them: each ends as if nothing had happened."""

from __future__ import annotations

import pytest

from tests.chaos.test_kill_matrix import (
    assert_drains,
    assert_reported,
    assert_same,
    hit,
    serve,
    wait_ready_again,
    wait_running,
)
from tests.chaos.traffic import MIXED, finish, send
from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.running_server import wait_gone

SHORT = {("Worker_0", "SIGKILL", "decode"), ("Worker_1", "SIGKILL", "decode")}
CELLS = [
    pytest.param(victim, how, phase, marks=[] if (victim, how, phase) in SHORT else pytest.mark.long)
    for victim in ("Worker_0", "Worker_1")
    for how in ("SIGKILL", "SIGSTOP")
    for phase in ("prefill", "decode")
]


@pytest.mark.parametrize(
    ("victim", "how", "phase"), [*CELLS, pytest.param("Worker_3", "SIGKILL", "decode", marks=pytest.mark.long)]
)
def test_streams_go_on_to_the_same_last_character(victim, how, phase, undisturbed):
    size = 2 if victim == "Worker_3" else 1
    with serve(size, "--pipeline-parallel-size", "2") as server:
        clients = send(server.url, MIXED)
        if phase == "decode":
            assert all(client.started.wait(20.0) for client in clients)
        else:
            wait_running(server)
        dead = hit(server, victim, how)
        assert wait_ready_again(server) == {200, 503} or phase == "prefill"
        assert_same(finish(clients), undisturbed, server)
        assert wait_gone([dead], 1.0) == set()
        assert len(server.tree()) == 2 + 2 * size
        assert_reported(server, victim, how)
        assert_drains(server)
