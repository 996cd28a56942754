"""Looking into real processes: stacks of one that hangs, the log of all, and a kill in the middle of a stream."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import httpx
import pytest

from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.processes.streamed_text import streamed_text
from tests.running_server import RunningServer


@pytest.fixture(scope="module")
def server():
    flags = ("--allow-kill", "--tensor-parallel-size", "2", "--fake-step-seconds", "0.01")
    with RunningServer(*flags) as running:
        yield running


def get(server: RunningServer, path: str) -> dict[str, Any]:
    answer = httpx.get(server.url + path, timeout=20.0)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_every_process_says_where_its_threads_are(server):
    pids = server.by_title()
    expected = {
        "Web": {"MainThread", "MPClientEngineMonitor"},
        "EngineCore": {"MainThread", "process_input_sockets", "process_output_sockets", "MultiprocWorkerMonitor"},
        "Worker_0": {"MainThread", "ParentDeathWatch"},
        "Worker_1": {"MainThread", "ParentDeathWatch"},
    }
    for process, threads in expected.items():
        stack = get(server, f"/debug/stack/{process}")
        assert stack["pid"] == pids[f"yeoul::{process}"]
        assert threads <= {thread["name"] for thread in stack["threads"]}
        (main,) = [thread for thread in stack["threads"] if thread["name"] == "MainThread"]
        assert main["tid"] == stack["pid"]
        assert all(frame["line"] for frame in main["frames"])


def test_the_log_is_of_all_processes(server):
    log = get(server, "/debug/log")
    assert log["missing"] == []
    assert {"Web"} <= {line["process"] for line in log["data"]}
    for line in log["data"]:
        assert line["text"] in server.log()


def test_a_process_that_a_signal_has_stopped_is_said_to_be(server):
    worker = server.by_title()["yeoul::Worker_1"]
    os.kill(worker, signal.SIGSTOP)
    try:
        answer = httpx.get(f"{server.url}/debug/stack/Worker_1", timeout=20.0)
        assert answer.status_code == 503
        assert "a signal has stopped it" in answer.json()["error"]["message"]
        assert get(server, "/debug/stack/Worker_0")["threads"]
    finally:
        os.kill(worker, signal.SIGCONT)
    assert get(server, "/debug/stack/Worker_1")["pid"] == worker, "late answers are not mistaken for this one"


@pytest.mark.parametrize("process", ["Worker_1", pytest.param("EngineCore", marks=pytest.mark.long)])
def test_a_stream_goes_on_to_the_same_end_when_a_process_is_killed_by_a_request(server, process):
    expected = streamed_text(server, 60)
    begun, texts = threading.Event(), []
    reader = threading.Thread(target=lambda: texts.append(streamed_text(server, 60, begun)))
    reader.start()
    assert begun.wait(20.0)
    pid = server.by_title()[f"yeoul::{process}"]
    answer = httpx.post(f"{server.url}/debug/kill/{process}", timeout=20.0)
    assert answer.json() == {"process": process, "pid": pid}
    reader.join(60.0)
    assert texts == [expected]
    assert server.by_title()[f"yeoul::{process}"] != pid
    assert "was killed by signal 9 (SIGKILL)" in server.log()
