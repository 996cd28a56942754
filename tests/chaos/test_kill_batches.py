"""Whoever is killed while a batch runs, and if it is everybody: its answers are those that it would have had."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.test_kill_matrix import HOW, QUICK_TO_NOTICE, VICTIMS, assert_drains, hit
from tests.chaos.traffic import MIXED, SLOW
from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.running_server import RunningServer, wait_gone

LINES = MIXED * 2
WEB = "Web"  # its successor goes on with what is in the folder
CELLS = [
    pytest.param(2, ("Worker_1", "EngineCore", WEB, "Worker_0"), "SIGKILL", id="everybody of 2 in turn, SIGKILL"),
    *(
        pytest.param(
            size,
            (victim,),
            how,
            id=f"{victim} of {size}, {how}",
            marks=pytest.mark.long if how == "SIGKILL" else pytest.mark.chaos,
        )
        for size, victims in VICTIMS.items()
        for victim in (*victims, WEB)
        for how in HOW
        if victim != WEB or how in ("SIGKILL", "SIGSEGV")
    ),
]


def serve(folder: Path, size: int, *flags: str) -> RunningServer:
    return RunningServer("--data-dir", str(folder), "--tensor-parallel-size", str(size), *flags)


def begin(server: RunningServer) -> str:
    written = "".join(
        json.dumps({"custom_id": str(number), "method": "POST", "url": "/v1/completions", "body": body}) + "\n"
        for number, body in enumerate(LINES)
    )
    form, purpose = {"file": ("in", written.encode())}, {"purpose": "batch"}
    file = httpx.post(f"{server.url}/v1/files", files=form, data=purpose, timeout=10.0).json()
    body = {"input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "24h"}
    return str(httpx.post(f"{server.url}/v1/batches", json=body, timeout=10.0).json()["id"])


def wait_for(server: RunningServer, batch_id: str, num_completed: int) -> dict[str, Any]:
    """The batch, once so many of its lines are answered."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        batch: dict[str, Any] = httpx.get(f"{server.url}/v1/batches/{batch_id}", timeout=10.0).json()
        if batch["request_counts"]["completed"] >= num_completed:
            return batch
        time.sleep(0.02)
    raise AssertionError(f"{batch}\n{server.log()}")


def answers(server: RunningServer, batch_id: str) -> dict[str, Any]:
    """What does not differ from one batch to another."""
    batch = wait_for(server, batch_id, len(LINES))
    while batch["status"] != "completed":
        batch = wait_for(server, batch_id, len(LINES))
    assert batch["request_counts"] == {"total": len(LINES), "completed": len(LINES), "failed": 0}
    assert batch["error_file_id"] is None
    found = {}
    for line in httpx.get(f"{server.url}/v1/files/{batch['output_file_id']}/content", timeout=10.0).text.splitlines():
        answer = json.loads(line)
        assert answer["custom_id"] not in found, "a line is answered twice"
        body = answer["response"]["body"]
        usage = {name: body["usage"][name] for name in ("prompt_tokens", "completion_tokens")}
        found[answer["custom_id"]] = (body["choices"], usage)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with serve(tmp_path_factory.mktemp("data"), 1) as server:
        return answers(server, begin(server))


@pytest.mark.parametrize(("size", "victims", "how"), CELLS)
def test_a_batch_has_the_same_answers_whoever_died_meanwhile(size, victims, how, undisturbed, tmp_path):
    flags = ("--fake-poison", "--max-num-seqs", "8", *SLOW, *QUICK_TO_NOTICE)
    with serve(tmp_path, size, *flags) as server:
        batch_id = begin(server)
        for number, victim in enumerate(victims, 1):
            batch = wait_for(server, batch_id, number * len(LINES) // (len(victims) + 1))
            assert batch["status"] == "in_progress"
            pids = server.tree()
            dead = hit(server, victim, how)
            if victim == WEB:
                server.wait_exit(5.0)
                assert wait_gone(pids, 1.0) == set()
                server.__exit__()
                server.__enter__()
            else:
                assert wait_gone([dead], 5.0) == set()
        assert answers(server, batch_id) == undisturbed, server.log()
        assert_drains(server)
