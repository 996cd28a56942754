"""``/topology`` of a real server: true of every process and thread, also while they are killed and replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import httpx
import msgspec
import pytest

from tests.mermaid_boxes import documented_boxes, read_boxes
from tests.running_server import YEOUL, RunningServer, parents, thread_names
from yeoul.messages.topology import Process, Topology

LIMIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer("--tensor-parallel-size", "2") as running:
        yield running


def look(server: RunningServer) -> Topology:
    return msgspec.json.decode(httpx.get(f"{server.url}/topology", timeout=10.0).raise_for_status().content, type=Topology)


def by_name(topology: Topology) -> dict[str, Process]:
    return {process.name: process for process in topology.processes}


def look_until(server: RunningServer, is_so: Callable[[Topology], bool]) -> Topology:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not is_so(topology := look(server)):
        assert time.monotonic() < deadline, msgspec.json.format(msgspec.json.encode(topology)).decode()
        time.sleep(0.02)
    return topology


def test_the_tree_is_that_of_the_kernel(server: RunningServer) -> None:
    topology, pids, above = look(server), server.by_title(), parents()
    found = by_name(topology)
    assert topology.is_ready
    assert {process.title: process.pid for process in topology.processes} == pids
    for process in topology.processes:
        assert process.state == "running"
        assert process.pid is not None
        if process.parent is not None:
            assert above[process.pid] == found[process.parent].pid
        names = [name for name in thread_names(process.pid) if name != "web_pool"]  # those come as they are needed
        assert len([one for one in process.threads if one.name != "web_pool"]) == len(names)
        assert all(one.name[:15] in names for one in process.threads if not one.is_library and not one.is_main
                   and one.name != "web_pool")  # fmt: skip
        assert process.resident_bytes > 1 << 20
        assert process.since <= topology.at


def test_links_count_what_crosses(server: RunningServer) -> None:
    before = {link.name: link for link in look(server).links}
    httpx.post(f"{server.url}/v1/completions", json={"prompt": "a", "max_tokens": 5, "ignore_eos": True}, timeout=30.0)
    wanted = (before["steps to Worker_1"].messages or 0) + 5
    grown = look_until(server, lambda one: _messages(one, "steps to Worker_1") >= wanted)
    after = {link.name: link for link in grown.links}
    assert set(after) == set(before) == {
        "calls", "start of EngineCore", "requests", "outputs",
        *(f"{what}_{rank}" for what in ("start of Worker", "steps to Worker", "answers of Worker", "exchange of Worker")
          for rank in (0, 1)),
    }  # fmt: skip
    for name in ("requests", "outputs", "steps to Worker_0", "answers of Worker_0", "answers of Worker_1"):
        assert (after[name].messages or 0) > (before[name].messages or 0), name
        assert (after[name].num_bytes or 0) > (before[name].num_bytes or 0), name
        assert after[name].queue_depth == 0, name
    assert after["steps to Worker_0"].fill == 0.0
    assert (after["requests"].address or "").startswith("ipc://")


def _messages(topology: Topology, name: str) -> int:
    return next(link.messages or 0 for link in topology.links if link.name == name)


def test_a_killed_worker_is_missed_replaced_and_told_of(server: RunningServer) -> None:
    before = by_name(look(server))
    assert before["Worker_1"].pid is not None
    os.kill(before["Worker_1"].pid, signal.SIGKILL)
    look_until(server, lambda one: any(incident.kind == "death" for incident in one.incidents))
    healed = look_until(server, lambda one: one.is_ready and by_name(one)["Worker_1"].state == "running")
    after = by_name(healed)
    assert after["Worker_1"].pid != before["Worker_1"].pid
    assert after["EngineCore"].pid == before["EngineCore"].pid
    assert [process.num_restarts for process in healed.processes] == [0, 0, 1, 1]
    assert [(one.process, one.kind) for one in healed.incidents] == [
        ("Worker_1", "death"), ("Worker_0", "restart"), ("Worker_1", "restart"), ("EngineCore", "recovery"),
    ]  # fmt: skip
    assert "SIGKILL" in healed.incidents[0].words


def test_a_killed_engine_core_is_missed_replaced_and_told_of(server: RunningServer) -> None:
    before = by_name(look(server))
    assert before["EngineCore"].pid is not None
    os.kill(before["EngineCore"].pid, signal.SIGKILL)
    missing = by_name(look_until(server, lambda one: not one.is_ready))
    assert missing["EngineCore"].state in ("dead", "starting")
    starting = look_until(server, lambda one: by_name(one)["EngineCore"].state == "starting")
    assert by_name(starting)["EngineCore"].pid != before["EngineCore"].pid
    assert by_name(starting)["Worker_0"].state in ("dead", "starting")
    healed = look_until(server, lambda one: one.is_ready)
    after = by_name(healed)
    assert [process.state for process in healed.processes] == ["running"] * 4
    assert after["EngineCore"].num_restarts == 1
    assert after["Worker_0"].num_restarts == 2
    assert {process.title: process.pid for process in healed.processes} == server.by_title()


def test_a_stopped_engine_core_is_seen_from_outside(server: RunningServer) -> None:
    pid = by_name(look(server))["EngineCore"].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        found = by_name(look_until(server, lambda one: by_name(one)["EngineCore"].doing == "is stopped by a signal"))
        assert found["EngineCore"].threads[0].state == "stopped"
        assert found["Worker_1"].state == "running"
    finally:
        os.kill(pid, signal.SIGCONT)


def test_the_printed_diagram_is_the_documented_one_box_by_box(server: RunningServer) -> None:
    """But for the runner's name, which is the fake one's here; ``tests/e2e`` has a real one."""
    look_until(server, lambda one: one.is_ready and all(process.parts for process in one.processes))  # EngineCore tells again
    done = subprocess.run([YEOUL, "topology", server.url, "--mermaid"], capture_output=True, text=True, check=True)
    assert read_boxes(done.stdout.replace("FakeModelRunner", "GPUModelRunner")) == documented_boxes()
