"""One of two engines, or its worker, is killed: the other one serves, and each stream ends as if nothing had happened."""

from __future__ import annotations

import os
import signal

import httpx
import pytest

from tests.chaos.test_kill_matrix import QUICK_TO_NOTICE, assert_drains, assert_same, wait_running
from tests.chaos.traffic import MIXED, SLOW, finish, send
from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.patience import until
from tests.running_server import RunningServer, wait_gone

CELLS = [
    pytest.param("EngineCore_1", "decode"),
    pytest.param("Worker_1", "decode", marks=pytest.mark.long),
    pytest.param("EngineCore_1", "prefill", marks=pytest.mark.chaos),
    pytest.param("Worker_1", "prefill", marks=pytest.mark.chaos),
]
TREE = {"yeoul::EngineCore_0", "yeoul::EngineCore_1", "yeoul::Worker_0", "yeoul::Worker_1"}


def serve(*arguments: str) -> RunningServer:
    return RunningServer("--data-parallel-size", "2", "--fake-poison", *SLOW, *QUICK_TO_NOTICE, *arguments)


def states(server: RunningServer) -> dict[str, str]:
    """Of each engine; nothing where none computes."""
    answer = httpx.get(f"{server.url}/health", timeout=10.0)
    if answer.status_code == 503:
        return {}
    return {engine["name"]: engine["state"] for engine in answer.json()["engines"]}


@pytest.mark.parametrize(("victim", "phase"), CELLS)
def test_streams_of_both_engines_end_as_those_of_one(victim, phase, undisturbed):
    with serve() as server:
        assert set(server.by_title()) >= TREE
        clients = send(server.url, MIXED)
        if phase == "decode":
            assert all(client.started.wait(20.0) for client in clients)
        else:
            wait_running(server)
        dead = server.by_title()[f"yeoul::{victim}"]
        os.kill(dead, signal.SIGKILL)
        seen = []

        def is_whole_again() -> bool:
            assert httpx.get(f"{server.url}/ready", timeout=10.0).status_code == 200, "the other engine serves"
            seen.append(states(server))
            is_there = server.by_title().get(f"yeoul::{victim}") not in (None, dead)
            return is_there and set(seen[-1].values()) == {"ready"}

        assert until(is_whole_again, 20.0), server.log()
        assert {state["EngineCore_0"] for state in seen} == {"ready"}
        assert "recovering" in {state["EngineCore_1"] for state in seen}
        assert_same(finish(clients), undisturbed, server)
        if phase == "decode":
            assert "in other engines" in server.log()
        assert wait_gone([dead], 1.0) == set()
        topology = httpx.get(f"{server.url}/topology", timeout=10.0).json()
        restarts = {process["title"]: process["num_restarts"] for process in topology["processes"]}
        assert restarts[f"yeoul::{victim}"] == 1
        assert set(restarts) >= TREE
        assert restarts["yeoul::EngineCore_0"] == restarts["yeoul::Worker_0"] == 0
        assert_drains(server)


@pytest.mark.long
def test_an_engine_that_is_given_up_leaves_its_streams_to_the_other_and_the_last_one_ends_the_server(undisturbed):
    with serve("--max-restarts", "0") as server:
        clients = send(server.url, MIXED)
        assert all(client.started.wait(20.0) for client in clients)
        pids = server.by_title()
        os.kill(pids["yeoul::EngineCore_1"], signal.SIGKILL)
        assert_same(finish(clients), undisturbed, server)
        assert wait_gone([pids["yeoul::EngineCore_1"], pids["yeoul::Worker_1"]], 1.0) == set()
        assert states(server) == {"EngineCore_0": "ready", "EngineCore_1": "dead"}
        assert_same(finish(send(server.url, MIXED)), undisturbed, server)
        clients = send(server.url, MIXED)
        assert all(client.started.wait(20.0) for client in clients)
        os.kill(pids["yeoul::Worker_0"], signal.SIGKILL)
        assert server.wait_exit(10.0) == 1
        assert all(answer.error for answer in finish(clients))
        assert "Worker_0 was killed by signal 9 (SIGKILL)" in server.log()


@pytest.mark.parametrize(
    "victims",
    [
        pytest.param(("EngineCore_0", "EngineCore_1"), marks=pytest.mark.long),
        pytest.param(("EngineCore_1", "Worker_0"), marks=pytest.mark.chaos),
    ],
)
def test_both_engines_at_once_go_on_where_they_were(victims, undisturbed):
    with serve() as server:
        clients = send(server.url, MIXED)
        assert all(client.started.wait(20.0) for client in clients)
        pids = server.by_title()
        for victim in victims:
            os.kill(pids[f"yeoul::{victim}"], signal.SIGKILL)
        assert_same(finish(clients), undisturbed, server)
        assert until(lambda: set(server.by_title()) >= TREE and set(states(server).values()) == {"ready"}, 20.0)
        assert_drains(server)


@pytest.mark.long
def test_a_poison_fails_alone_and_the_other_engine_never_meets_it(undisturbed):
    with serve() as server:
        poison = {"prompt": [65, 511], "max_tokens": 5}
        answers = finish(send(server.url, [*MIXED[:3], poison, *MIXED[3:]]), 90.0)
        assert_same([*answers[:3], *answers[4:]], undisturbed, server)
        assert "alone at last" in (answers[3].error or ""), server.log()
        topology = httpx.get(f"{server.url}/topology", timeout=10.0).json()
        restarts = [process["num_restarts"] for process in topology["processes"] if process["name"].startswith("Worker_")]
        assert min(restarts) == 0
        assert max(restarts) > 1
        assert_drains(server)
