"""A prefill engine, or the one that goes on behind it, is killed before and after the hand-over: nobody can tell."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.test_kill_matrix import QUICK_TO_NOTICE, assert_drains, assert_same, wait_running
from tests.chaos.traffic import MIXED, SLOW, Answer, finish, send
from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.patience import until
from tests.running_server import RunningServer

CELLS = [
    pytest.param("EngineCore_0", "before", marks=pytest.mark.long),
    pytest.param("EngineCore_1", "before", marks=pytest.mark.chaos),
    pytest.param("Worker_0", "before", marks=pytest.mark.chaos),
    pytest.param("Worker_1", "before", marks=pytest.mark.chaos),
    pytest.param("EngineCore_0", "after", marks=pytest.mark.chaos),
    pytest.param("EngineCore_1", "after", marks=pytest.mark.long),
    pytest.param("Worker_0", "after", marks=pytest.mark.chaos),
    pytest.param("Worker_1", "after", marks=pytest.mark.long),
]


def long_traffic() -> list[dict[str, Any]]:
    """As ``MIXED``, behind beginnings that a prefill engine computes, each another one; answers outlast their hand-over."""
    chooser = random.Random(5)

    def long(prompt: str) -> str:
        return "".join(chooser.choice("abcdefgh ") for _ in range(600)) + prompt

    def lengthened(prompt: Any) -> Any:
        return long(prompt) if isinstance(prompt, str) else [long(one) for one in prompt]

    return [{**body, "prompt": lengthened(body["prompt"]), "max_tokens": 3 * body["max_tokens"]} for body in MIXED]


@pytest.fixture(scope="module")
def alone() -> list[Answer]:
    """What one engine answers."""
    with RunningServer("--max-model-len", "4096") as server:
        answers = finish(send(server.url, long_traffic()))
    assert all(answer.is_complete and answer.error is None for answer in answers)
    return answers


def serve(folder: Path) -> RunningServer:
    two = ["--data-parallel-size", "2", "--num-prefill-engines", "1", "--data-dir", str(folder), "--kv-disk-bytes", "64MiB"]
    return RunningServer(*two, *SLOW, *QUICK_TO_NOTICE, "--max-model-len", "4096", "--check-invariants")


def engines_of_unfinished(server: RunningServer) -> set[str]:
    requests = httpx.get(f"{server.url}/debug/requests", timeout=10.0).json()["data"]
    return {request["engine"] for request in requests if request["state"] in ("waiting", "running")}


@pytest.mark.parametrize(("victim", "phase"), CELLS)
def test_streams_go_on_whoever_dies(tmp_path, victim, phase, alone):
    with serve(tmp_path) as server:
        clients = send(server.url, long_traffic())
        if phase == "before":
            wait_running(server)
            assert "EngineCore_0" in engines_of_unfinished(server)
        else:
            assert all(client.started.wait(30.0) for client in clients)
            assert until(lambda: engines_of_unfinished(server) <= {"EngineCore_1"}, 30.0), server.log()
            assert any(client.is_alive() for client in clients), "nothing was left to go on with"
        dead = server.by_title()[f"yeoul::{victim}"]
        os.kill(dead, signal.SIGKILL)
        assert_same(finish(clients, 90.0), alone, server)
        assert until(lambda: server.by_title().get(f"yeoul::{victim}") not in (None, dead), 20.0), server.log()
        assert server.metrics()["yeoul:kv_tier_loaded_blocks_total"] > 0
        assert_same(finish(send(server.url, long_traffic())), alone, server)
        assert_drains(server)
