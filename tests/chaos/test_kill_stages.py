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
from tests.running_server import RunningServer, listening_addresses, wait_gone
from tests.tcp_cut import cut, tcp_links_of

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


def cut_between(server: RunningServer, first: str, second: str) -> None:
    """The link from one stage to the next: no other connection of the first leads to where the second listens."""
    pids = server.by_title()
    ports = {port for _, port in listening_addresses([pids[f"yeoul::{second}"]])}
    worker = pids[f"yeoul::{first}"]
    (descriptor,) = [descriptor for descriptor, port in tcp_links_of(worker).items() if port in ports]
    cut(worker, descriptor)


@pytest.mark.parametrize("victim", ["a cut link", pytest.param("Worker_1", marks=pytest.mark.long)])
def test_streams_through_stages_elsewhere_go_on_to_the_same_last_character(victim, undisturbed):
    with serve(1, "--pipeline-parallel-size", "2", "--distributed-executor-backend", "loopback") as server:
        clients = send(server.url, MIXED)
        assert all(client.started.wait(20.0) for client in clients)
        before = server.by_title()
        if victim == "a cut link":
            cut_between(server, "Worker_0", "Worker_1")
        else:
            hit(server, victim, "SIGKILL")
        assert_same(finish(clients), undisturbed, server)
        assert wait_gone([before["yeoul::Worker_0"], before["yeoul::Worker_1"]], 5.0) == set()
        assert len(server.tree()) == 4
        assert_drains(server)
