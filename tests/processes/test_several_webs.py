"""``--api-server-count``: several web processes behind one address, from start to end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import termios

import httpx
import pytest

from tests.chaos.traffic import SLOW, Client, finish
from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.patience import until
from tests.running_server import YEOUL, RunningServer, free_port, parents, wait_gone

BODY = {"model": "fake", "prompt": "river", "max_tokens": 60, "seed": 1, "ignore_eos": True}


def drains(server: RunningServer) -> bool:
    return httpx.get(f"{server.url}/ready", timeout=10.0).status_code == 503


def is_ready(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/ready", timeout=10.0).status_code == 200
    return False


def test_all_refuse_what_comes_until_the_last_stream_is_finished():
    with RunningServer("--api-server-count", "2", *SLOW) as server:
        pids = server.by_title()
        assert {name for name in pids if name.startswith("yeoul::")} == {
            "yeoul::Keeper", "yeoul::Web_0", "yeoul::Web_1", "yeoul::EngineCore", "yeoul::Worker_0",
        }  # fmt: skip
        assert all(parents()[pids[f"yeoul::{name}"]] == server.pid for name in ("Web_0", "Web_1", "EngineCore"))
        stream = Client(server.url, {**BODY, "max_tokens": 400})
        assert stream.started.wait(20.0)
        os.killpg(server.pid, signal.SIGINT)
        assert until(lambda: drains(server), 10.0)
        verified = httpx.create_ssl_context()
        for _ in range(8):  # some at each of them
            refused = httpx.post(f"{server.url}/v1/completions", json=BODY, timeout=10.0, verify=verified)
            assert refused.status_code == 503, refused.text
        assert finish([stream])[0].is_complete
        assert server.wait_exit(10.0) == 0
        assert wait_gone(pids.values(), 1.0) == set()


def test_a_terminal_that_was_closed_takes_its_server_with_it():
    port, (terminal, inside) = free_port(), pty.openpty()
    command = [str(YEOUL), "serve", "fake", "--port", str(port), "--api-server-count", "2"]
    with subprocess.Popen(
        command,
        stdin=inside,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY),
    ) as process:
        try:
            os.close(inside)
            assert until(lambda: is_ready(f"http://127.0.0.1:{port}"), 30.0)
            process.send_signal(signal.SIGHUP)  # somebody means the files
            assert is_ready(f"http://127.0.0.1:{port}")
            os.close(terminal)
            assert process.wait(20.0) == 0
        finally:
            process.kill()


def test_an_engine_that_dies_while_a_server_that_stops_still_takes_requests_is_replaced():
    with RunningServer("--api-server-count", "2", "--drain-delay-seconds", "3") as server:
        os.kill(server.pid, signal.SIGTERM)
        assert until(lambda: drains(server), 10.0)
        os.kill(server.by_title()["yeoul::EngineCore"], signal.SIGKILL)
        assert httpx.post(f"{server.url}/v1/completions", json=BODY, timeout=20.0).status_code == 200
        assert server.wait_exit(20.0) == 0


def test_a_second_signal_ends_all_at_once():
    with RunningServer("--api-server-count", "2", *SLOW) as server:
        pids = server.tree()
        stream = Client(server.url, {**BODY, "max_tokens": 2000})
        assert stream.started.wait(20.0)
        os.kill(server.pid, signal.SIGTERM)
        assert until(lambda: drains(server), 10.0)
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait_exit(5.0) == 128 + signal.SIGTERM
        assert wait_gone(pids, 1.0) == set()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ssl-certfile", "/nowhere.pem"], "/nowhere.pem"),
        (["--max-model-len", "100000"], "max_model_len is 100000"),
    ],
    ids=["of a web process", "of the engine"],
)
def test_what_a_child_cannot_start_with_is_the_last_line(arguments, words):
    with RunningServer("--api-server-count", "2", *arguments, wait=False) as server:
        assert server.wait_exit(30.0) == 2
        assert words in server.log().strip().splitlines()[-1]


def test_sigterm_while_a_web_process_takes_a_dead_ones_place_ends_all():
    with RunningServer("--api-server-count", "2", *SLOW) as server:
        pids = server.by_title()
        os.kill(pids["yeoul::Web_1"], signal.SIGKILL)
        assert until(lambda: server.by_title().get("yeoul::Web_1") not in (None, pids["yeoul::Web_1"]), 20.0)
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait_exit(20.0) == 0
        assert "Traceback" not in server.log()
