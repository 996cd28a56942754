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
    pytest.param(victim, phase, id=f"{victim}, {phase}", marks=[] if (victim, phase) == short else pytest.mark.long)
    for short in [("EngineCore_1", "decode")]
    for victim in ("EngineCore_1", "Worker_1")
    for phase in ("prefill", "decode")
]
TREE = {"yeoul::EngineCore_0", "yeoul::EngineCore_1", "yeoul::Worker_0", "yeoul::Worker_1"}


def serve(*arguments: str) -> RunningServer:
    return RunningServer("--data-parallel-size", "2", "--fake-poison", *SLOW, *QUICK_TO_NOTICE, *arguments)


def states(server: RunningServer) -> dict[str, str]:
    answer = httpx.get(f"{server.url}/health", timeout=10.0)
    assert answer.status_code == 200
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
        assert wait_gone([dead], 1.0) == set()
        topology = httpx.get(f"{server.url}/topology", timeout=10.0).json()
        restarts = {process["title"]: process["num_restarts"] for process in topology["processes"]}
        assert restarts[f"yeoul::{victim}"] == 1
        assert set(restarts) >= TREE
        assert restarts["yeoul::EngineCore_0"] == restarts["yeoul::Worker_0"] == 0
        assert_drains(server)
