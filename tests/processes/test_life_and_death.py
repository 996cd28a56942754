"""Start, failed start, drain, second signal, and every process killed: what is left, and what the exit code says."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.patience import until
from tests.running_server import RunningServer, wait_gone

SLOW = ("--fake-step-seconds", "0.02")


class Stream(threading.Thread):
    """A streaming client in the background; ``status``, ``text`` and whether the stream ended as it should."""

    def __init__(self, server: RunningServer, max_tokens: int) -> None:
        super().__init__(daemon=True)
        self._server, self._max_tokens = server, max_tokens
        self.status = 0
        self.events: list[str] = []
        self.started = threading.Event()
        self.start()

    def run(self) -> None:
        body = {"model": "fake", "prompt": "river", "max_tokens": self._max_tokens, "ignore_eos": True, "stream": True}
        try:
            with httpx.stream("POST", f"{self._server.url}/v1/completions", json=body, timeout=60.0) as answer:
                self.status = answer.status_code
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        self.events.append(line.removeprefix("data: "))
                        self.started.set()
        except httpx.HTTPError:
            return
        finally:
            self.started.set()

    @property
    def is_complete(self) -> bool:
        return self.events[-1:] == ["[DONE]"]


def drains(server: RunningServer) -> bool:
    """Whether it has heard the signal, and still runs."""
    return httpx.get(f"{server.url}/ready", timeout=10.0).status_code == 503


def test_sigterm_while_idle_ends_every_process_with_exit_code_0():
    with RunningServer() as server:
        pids = server.tree()
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait_exit(5.0) == 0
        assert wait_gone(pids, 1.0) == set()


def test_sigterm_while_an_engine_takes_a_dead_ones_place_leaves_nothing():
    with RunningServer() as server:
        os.kill(server.by_title()["yeoul::EngineCore"], signal.SIGKILL)
        folder = Path(os.environ["XDG_RUNTIME_DIR"], f"yeoul-{os.geteuid()}")
        assert until(lambda: len(list(folder.iterdir())) >= 2, 10.0)  # the web process's, and the new engine's own
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait_exit(20.0) == 0


def test_sigterm_lets_running_requests_finish_and_refuses_new_ones():
    with RunningServer(*SLOW) as server:
        stream = Stream(server, max_tokens=100)
        assert stream.started.wait(10.0)
        os.kill(server.pid, signal.SIGTERM)
        assert until(lambda: drains(server), 10.0)
        refused = httpx.post(f"{server.url}/v1/completions", json={"model": "fake", "prompt": "late", "max_tokens": 1})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["message"]
        stream.join(20.0)
        assert stream.status == 200
        assert stream.is_complete
        assert server.wait_exit(5.0) == 0


def test_a_signal_to_the_whole_group_drains_as_well():
    with RunningServer(*SLOW) as server:
        stream = Stream(server, max_tokens=50)
        assert stream.started.wait(10.0)
        os.killpg(server.pid, signal.SIGINT)
        stream.join(20.0)
        assert stream.is_complete
        assert server.wait_exit(5.0) == 0


def test_a_second_signal_ends_at_once():
    with RunningServer(*SLOW) as server:
        pids = server.tree()
        stream = Stream(server, max_tokens=2000)
        assert stream.started.wait(10.0)
        os.kill(server.pid, signal.SIGTERM)
        assert until(lambda: drains(server), 10.0)
        os.kill(server.pid, signal.SIGTERM)
        server.wait_exit(3.0)
        assert wait_gone(pids, 1.0) == set()


def test_draining_ends_at_its_limit():
    with RunningServer(*SLOW, "--drain-timeout-seconds", "1") as server:
        stream = Stream(server, max_tokens=2000)
        assert stream.started.wait(10.0)
        os.kill(server.pid, signal.SIGTERM)
        server.wait_exit(5.0)


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "children stopped"])
def test_a_killed_web_process_takes_every_process_with_it_within_a_second(stopped):
    with RunningServer("--tensor-parallel-size", "2", *SLOW) as server:
        pids = server.by_title()
        stream = Stream(server, max_tokens=2000)
        assert stream.started.wait(10.0)
        if stopped:
            for name in ("yeoul::EngineCore", "yeoul::Worker_0", "yeoul::Worker_1"):
                os.kill(pids[name], signal.SIGSTOP)
        os.kill(server.pid, signal.SIGKILL)
        server.wait_exit(1.0)
        assert wait_gone(pids.values(), 1.0) == set()


@pytest.mark.parametrize("victim", ["yeoul::Worker_0", "yeoul::Worker_1", "yeoul::EngineCore"])
def test_the_exit_code_tells_that_a_process_was_killed_and_not_replaced(victim):
    with RunningServer("--tensor-parallel-size", "2", "--max-restarts", "0", *SLOW) as server:
        pids = server.by_title()
        stream = Stream(server, max_tokens=2000)
        assert stream.started.wait(10.0)
        os.kill(pids[victim], signal.SIGKILL)
        assert server.wait_exit(5.0) not in (0, -signal.SIGKILL)
        assert wait_gone(pids.values(), 1.0) == set()
        assert "signal 9 (SIGKILL)" in server.log()
        assert victim.removeprefix("yeoul::") in server.log()


def test_a_port_in_use_is_told_in_one_line_with_exit_code_2():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with RunningServer("--port", str(taken.getsockname()[1]), wait=False) as server:
            assert server.wait_exit(20.0) == 2
            assert "Traceback" not in server.log()
            assert str(taken.getsockname()[1]) in server.log().strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--max-model-lenn", "100"), "--max-model-len"),
        (("--max-num-seqs", "0"), "max-num-seqs"),
        (("--num-blocks-override", "2", "--max-model-len", "512"), "--kv-cache-memory-bytes"),
        (("--config", "/nonexistent.yaml"), "/nonexistent.yaml"),
    ],
)
def test_a_setting_that_cannot_work_is_told_in_one_line_with_exit_code_2(arguments, named):
    with RunningServer(*arguments, wait=False) as server:
        assert server.wait_exit(20.0) == 2
        assert "Traceback" not in server.log()
        assert named in server.log().strip().splitlines()[-1]


def test_a_missing_model_is_told_in_one_line_with_exit_code_2(tmp_path):
    with RunningServer(model=str(tmp_path / "nothing.gguf"), wait=False) as server:
        assert server.wait_exit(20.0) == 2
        assert "Traceback" not in server.log()
        assert "nothing.gguf" in server.log().strip().splitlines()[-1]


def zombies_of(parent: int) -> list[int]:
    """The dead children of a process whose exit codes nobody has taken."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, above = path.read_text().rpartition(")")[2].split()[:2]
            if state == "Z" and int(above) == parent:
                found.append(int(path.parent.name))
    return found


NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode != 0,
    reason="a process namespace of one's own is not permitted here",
)
def test_a_server_that_is_pid_1_keeps_no_zombies():
    server = RunningServer("--tensor-parallel-size", "2")
    server.command = [*NAMESPACE, *server.command]
    with server:
        web = server.by_title()["yeoul::Web"]
        for _ in range(3):
            os.kill(server.by_title()["yeoul::EngineCore"], signal.SIGKILL)
            answer = httpx.post(f"{server.url}/v1/completions", json={"model": "fake", "prompt": "hi"}, timeout=30.0)
            assert answer.status_code == 200
        deadline = time.monotonic() + 10.0
        while zombies_of(web) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert zombies_of(web) == []
        os.kill(web, signal.SIGTERM)
        assert server.wait_exit(10.0) == 0


def test_a_server_that_was_suspended_as_a_whole_goes_on_and_kills_nobody():
    with RunningServer(*SLOW, "--engine-answer-timeout-seconds", "1") as server:
        stream = Stream(server, max_tokens=200)
        assert stream.started.wait(10.0)
        pids = server.tree()
        for order in (pids, pids[::-1]):
            for pid in order:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(4.0)  # longer than any of its limits but those of a step
            for pid in order:
                os.kill(pid, signal.SIGCONT)
            time.sleep(0.5)
        stream.join(30.0)
        assert stream.is_complete
        assert server.tree() == pids


def test_an_engine_that_cannot_be_started_again_ends_the_server_with_the_cause(tmp_path):
    environment = tmp_path / "environment"
    environment.symlink_to(sys.prefix)
    server = RunningServer(*SLOW, "--max-restarts", "3")
    server.command = [str(environment / "bin" / "python"), "-m", "yeoul", *server.command[1:]]
    with server:
        stream = Stream(server, max_tokens=2000)
        assert stream.started.wait(10.0)
        environment.unlink()
        os.kill(server.by_title()["yeoul::EngineCore"], signal.SIGKILL)
        assert server.wait_exit(10.0) == 1
        stream.join(10.0)
        assert any('"error"' in event for event in stream.events)
        assert "could not start EngineCore" in server.log().strip().splitlines()[-1]
        assert "No such file or directory" in server.log()


def test_what_keeps_an_engine_from_starting_may_pass_within_the_budget():
    with RunningServer(*SLOW, "--max-restarts", "8") as server:
        stream = Stream(server, max_tokens=100)
        assert stream.started.wait(10.0)
        limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{server.pid}/fd")), limits[1]))
        os.kill(server.by_title()["yeoul::EngineCore"], signal.SIGKILL)
        deadline = time.monotonic() + 10.0
        while "Too many open files" not in server.log() and time.monotonic() < deadline:
            time.sleep(0.01)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
        stream.join(30.0)
        assert stream.is_complete, server.log()
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait_exit(10.0) == 0


def test_an_engine_that_dies_when_a_drain_has_only_readers_left_is_not_missed():
    with RunningServer("--fake-step-seconds", "0.001") as server:
        body = {
            "model": "fake",
            "prompt": "river",
            "max_tokens": 400,
            "ignore_eos": True,
            "stream": True,
            "n": 64,
            "logprobs": 5,
        }
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60.0) as answer:
            lines = answer.iter_lines()
            next(lines)
            deadline = time.monotonic() + 20.0
            while server.metrics()["yeoul:num_requests_running"] > 0 and time.monotonic() < deadline:
                time.sleep(0.02)
            engine = server.by_title()["yeoul::EngineCore"]
            os.kill(server.pid, signal.SIGTERM)
            while "stopping: 0 requests" not in server.log() and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(engine, signal.SIGKILL)
            assert wait_gone([engine], 5.0) == set()
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert server.wait_exit(10.0) == 0, server.log()
