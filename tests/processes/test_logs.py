"""Every line of a server's log with ``--log-format json``, from its start over a death to its end, is an object."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import httpx
import pytest

from tests.patience import until
from tests.running_server import RunningServer

KEYS = {"time", "level", "process", "pid", "logger", "message"}


def entries(text: str) -> list[dict[str, Any]]:
    """The lines of the log; each has to be an object with the keys that all have."""
    found = [json.loads(line) for line in text.splitlines()]
    for entry in found:
        assert entry.keys() >= KEYS, entry
        assert entry["level"] in ("debug", "info", "warning", "error")
        assert isinstance(entry["pid"], int)
    return found


def check_starts(found: list[dict[str, Any]]) -> None:
    """Each process says what its start was spent on, and it adds up; replaced ones do, too."""
    starts = [entry for entry in found if "start_parts" in entry]
    assert {entry["process"] for entry in starts} == {"Web", "EngineCore", "Worker_0"}
    assert len({entry["pid"] for entry in starts}) == len(starts) >= 4
    for entry in starts:
        parts = entry["start_parts"]
        assert sum(parts.values()) == pytest.approx(entry["start_seconds"], abs=0.001 * (len(parts) + 1))
        assert list(parts)[:2] == ["interpreter", "imports"]
    by_process = {entry["process"]: entry for entry in reversed(starts)}
    assert "waiting for EngineCore" in by_process["Web"]["start_parts"]
    assert "tokenizer" in by_process["Web"]["start_beside"]
    assert {"waiting for workers", "cache", "first steps"} <= by_process["EngineCore"]["start_parts"].keys()
    assert "weights" in by_process["Worker_0"]["start_parts"]


def test_a_server_that_starts_works_heals_and_stops_writes_objects_alone():
    with RunningServer("--log-format", "json", "--log-level", "debug", "--log-requests", "--fake-poison") as server:
        pids = server.by_title()
        with httpx.Client(base_url=server.url, timeout=60) as client:
            ids = {"x-request-id": "mine"}
            assert client.post("/v1/completions", json={"prompt": "river", "max_tokens": 4}, headers=ids).status_code == 200
            body = {"prompt": "river", "max_tokens": 3, "ignore_eos": True, "stream": True}
            client.post("/v1/completions", json=body, headers={"x-request-id": "streamed"})
            client.post("/v1/completions", json={"prompt": "x", "n": 0}, headers={"x-request-id": "wrong"})
            client.get("/nowhere")
            os.kill(pids["yeoul::Worker_0"], signal.SIGKILL)
            client.post("/v1/completions", json={"prompt": "lake", "max_tokens": 2}, headers={"x-request-id": "after"})
            # A worker that aborts in native code.
            client.post("/v1/completions", json={"prompt": [509], "max_tokens": 2}, headers={"x-request-id": "poison"})
        server.process.send_signal(signal.SIGTERM)
        assert server.wait_exit(30.0) == 0
        log = server.log()
    found = entries(log)
    assert {entry["process"] for entry in found} >= {"Web", "EngineCore", "Worker_0"}
    assert {entry["pid"] for entry in found if entry["process"] == "Web"} == {server.pid}
    (ready,) = (entry for entry in found if entry["message"].startswith("Yeoul ") and "url" in entry)
    assert (ready["url"], ready["worker_pids"]) == (server.url, [pids["yeoul::Worker_0"]])
    ended = {entry["request_id"]: entry for entry in found if entry["logger"] == "requests"}
    assert {"mine", "streamed", "wrong", "after", "poison"} <= ended.keys()
    assert (ended["mine"]["method"], ended["mine"]["path"], ended["mine"]["status"]) == ("POST", "/v1/completions", 200)
    assert ended["streamed"]["num_output_tokens"] == 3
    assert ended["streamed"]["finish_reason"] == "length"
    assert ended["wrong"]["status"] == 400
    check_starts(found)
    assert any("SIGKILL" in entry["message"] for entry in found)


def test_a_start_that_fails_says_why_as_an_object():
    with RunningServer("--log-format", "json", "--max-model-len", "10000000000000", wait=False) as server:
        assert server.wait_exit(60.0) == 2
        assert "max_model_len" in entries(server.log())[-1]["message"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_native_code_writes_by_itself_has_the_form_of_all_lines(log_format):
    """A worker's descriptor 2 is its parent's to read."""
    with RunningServer("--log-format", log_format) as server:
        pid = server.by_title()["yeoul::Worker_0"]
        with open(f"/proc/{pid}/fd/2", "wb", buffering=0) as stream:
            stream.write(b"terminate called\n\nby nobody")
        os.kill(pid, signal.SIGKILL)
        assert until(lambda: "by nobody" in server.log(), 30.0)
        log = server.log()
    if log_format == "json":
        lines = [entry["message"] for entry in entries(log) if (entry["process"], entry["pid"]) == ("Worker_0", pid)]
        assert lines[-2:] == ["terminate called", "by nobody"]
    else:
        assert f"WARNING Worker_0[{pid}] stderr: terminate called\n" in log
