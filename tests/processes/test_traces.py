"""The trace of real processes: on one clock, over a worker's death and the server's end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading

import httpx

from tests.patience import until
from tests.processes.streamed_text import streamed_text
from tests.running_server import YEOUL, RunningServer
from tests.unit.web_process.live.trace_parser import ParsedTrace, end_of, seconds_of


def has_gone_round(server: RunningServer) -> bool:
    """Whether the recording waits to ask again: then it has what each process had to say."""
    threads = httpx.get(f"{server.url}/debug/stack/Web", timeout=20.0).json()["threads"]
    frames = [frame for thread in threads if thread["name"].startswith("trace") for frame in thread["frames"]]
    return any(frame["function"] == "Recording.run" and "self._stopped.wait(" in frame["code"] for frame in frames)


def test_a_server_is_recorded_over_a_workers_death_until_its_own_end(tmp_path):
    path = tmp_path / "trace.json"
    with RunningServer("--tensor-parallel-size", "2", "--fake-step-seconds", "0.01") as server:
        command = [str(YEOUL), "trace", server.url, "--seconds", "60", "-o", str(path)]
        recording = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert until(lambda: has_gone_round(server), 20.0)
        expected = streamed_text(server, 60)
        begun, texts = threading.Event(), []
        reader = threading.Thread(target=lambda: texts.append(streamed_text(server, 60, begun)))
        reader.start()
        assert begun.wait(20.0)
        os.kill(server.by_title()["yeoul::Worker_1"], signal.SIGKILL)
        reader.join(60.0)
        assert texts == [expected]
        os.kill(server.pid, signal.SIGTERM)
        _, told = recording.communicate(timeout=60.0)
        assert recording.returncode == 0, told
        assert "killed by signal 9" in told
    trace = ParsedTrace(path.read_bytes())
    names = sorted(trace.processes.values())
    assert names[:2] == ["EngineCore", "Web"]
    assert set(names[2:]) == {"Worker_0", "Worker_1"}
    assert len(names) == 6, "both were replaced"
    loop, computed = trace.rows["EngineCore", "run_busy_loop"], 0
    sent = {span["args"]["step"]: span for span in loop if span["name"] == "send step"}
    applied = {span["args"]["step"]: span for span in loop if span["name"] == "apply"}
    for worker in ("Worker_0", "Worker_1"):
        inside = trace.inside(worker, "WorkerProc")
        for step in (span for span in trace.top(worker, "WorkerProc") if span["name"] == "step"):
            parts = [part for part in inside if part["pid"] == step["pid"] and step["ts"] <= part["ts"] < end_of(step)]
            assert seconds_of(parts) >= 0.98 * seconds_of([step])
            number = step.get("args", {}).get("step")
            if number in applied and step["ts"] <= applied[number]["ts"]:  # and new workers are not just being tried
                assert sent[number]["ts"] <= step["ts"]
                assert parts[-1]["name"] == "send"
                assert parts[-1]["ts"] <= applied[number]["ts"]
                computed += 1
    assert computed > 100
    assert any("killed by signal 9" in incident["words"] for incident in trace.about["incidents"])
