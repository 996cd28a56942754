"""One of two web processes, their keeper, or what is behind it, is killed: whoever lives goes on as if nothing were."""

from __future__ import annotations

import os
import signal

import httpx
import pytest

from tests.chaos.test_kill_matrix import QUICK_TO_NOTICE, assert_drains, assert_same, wait_running
from tests.chaos.traffic import MIXED, SLOW, Answer, Client, finish, send
from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.patience import until
from tests.running_server import RunningServer, wait_gone
from yeoul.transport.private_folder import PrivateFolder

CROWD = [*MIXED, *MIXED]
"""So many that the kernel gives each web process some."""
LONG = pytest.mark.long
CHAOS = pytest.mark.chaos


def serve(*arguments: str) -> RunningServer:
    return RunningServer("--api-server-count", "2", *SLOW, *QUICK_TO_NOTICE, *arguments)


def begin(server: RunningServer, phase: str) -> list[Client]:
    clients = send(server.url, CROWD)
    if phase == "decode":
        assert all(client.started.wait(20.0) for client in clients)
    else:
        wait_running(server)
    return clients


def kill(server: RunningServer, victim: str) -> int:
    pid = server.by_title()[f"yeoul::{victim}"]
    os.kill(pid, signal.SIGKILL)
    return pid


def is_cut(answer: Answer) -> bool:
    """Its web process is gone, and said nothing."""
    return not answer.is_complete and "Error(" in (answer.error or "")


def restarts(server: RunningServer) -> dict[str, int]:
    topology = httpx.get(f"{server.url}/topology", timeout=10.0).json()
    return {process["name"]: process["num_restarts"] for process in topology["processes"]}


@pytest.mark.parametrize("phase", [pytest.param("decode"), pytest.param("prefill", marks=LONG)])
def test_streams_of_the_other_web_process_go_on_and_another_takes_its_place(phase, undisturbed):
    with serve() as server:
        clients = begin(server, phase)
        dead = kill(server, "Web_1")
        answers = finish(clients)
        pairs = [pair for pair in zip(answers, undisturbed * 2, strict=True) if not is_cut(pair[0])]
        assert 0 < len(pairs) < len(answers), "each web process had some"
        assert_same([answer for answer, _ in pairs], [before for _, before in pairs], server)
        assert until(lambda: server.by_title().get("yeoul::Web_1") not in (None, dead), 20.0), server.log()
        assert until(lambda: "Web_1 was replaced" in server.log(), 20.0), server.log()
        assert_same(finish(begin(server, "decode")), undisturbed * 2, server)
        assert restarts(server)["EngineCore"] == 0
        assert_drains(server)


@pytest.mark.parametrize(
    ("victim", "phase"),
    [
        pytest.param("EngineCore", "decode"),
        pytest.param("Worker_0", "decode", marks=LONG),
        pytest.param("EngineCore", "prefill", marks=CHAOS),
        pytest.param("Worker_0", "prefill", marks=CHAOS),
    ],
)
def test_streams_of_all_web_processes_go_on_when_what_computes_them_dies(victim, phase, undisturbed):
    with serve() as server:
        clients = begin(server, phase)
        kill(server, victim)
        assert_same(finish(clients), undisturbed * 2, server)
        assert restarts(server)[victim] == 1
        assert_drains(server)


@pytest.mark.parametrize("phase", [pytest.param("decode"), pytest.param("prefill", marks=CHAOS)])
def test_a_keeper_that_is_killed_takes_every_process_with_it_within_a_second(phase):
    with serve() as server:
        clients = begin(server, phase)
        pids = server.tree()
        os.kill(server.pid, signal.SIGKILL)
        server.wait_exit(1.0)
        assert wait_gone(pids, 1.0) == set()
        assert all(map(is_cut, finish(clients)))
        PrivateFolder.create(os.environ["XDG_RUNTIME_DIR"]).remove()  # the next start sweeps what has to have a name


@pytest.mark.long
def test_of_two_engines_behind_two_web_processes_one_dies_and_each_stream_goes_on(undisturbed):
    with serve("--data-parallel-size", "2") as server:
        clients = begin(server, "decode")
        kill(server, "EngineCore_1")
        assert_same(finish(clients), undisturbed * 2, server)
        assert_drains(server)


@pytest.mark.long
def test_a_web_process_that_is_stopped_is_found_and_replaced(undisturbed):
    with serve() as server:
        clients = begin(server, "decode")
        stopped = server.by_title()["yeoul::Web_0"]
        os.kill(stopped, signal.SIGSTOP)
        assert until(lambda: server.by_title().get("yeoul::Web_0") not in (None, stopped), 20.0), server.log()
        answers = finish(clients)
        pairs = [pair for pair in zip(answers, undisturbed * 2, strict=True) if not is_cut(pair[0])]
        assert_same([answer for answer, _ in pairs], [before for _, before in pairs], server)
        assert until(lambda: "Web_0 was replaced" in server.log(), 20.0), server.log()
        assert_drains(server)
