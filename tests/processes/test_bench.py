"""``yeoul bench`` against a real server, both as a user starts them."""

import json
import signal
import subprocess
import time

import psutil
import pytest

from tests.running_server import YEOUL, RunningServer


@pytest.fixture(scope="module")
def server():
    with RunningServer() as running:
        yield running


def bench(server, mode, *arguments):
    command = [str(YEOUL), "bench", mode, "--url", server.url, "--json", "-", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("mode", "arguments"),
    [
        ("serve", ["--max-concurrency", "6", "--num-clients", "2"]),
        ("serve", ["--request-rate", "100", "--num-clients", "2"]),
        ("serve", ["--prefix-len", "64"]),
        ("latency", []),
        ("throughput", []),
    ],
)
def test_every_mode_counts_exactly_the_tokens_that_it_asked_for(server, mode, arguments):
    report = bench(server, mode, "--num-prompts", "12", "--input-len", "40", "--output-len", "16", *arguments)
    assert (report["num_completed"], report["num_failed"]) == (12, 0)
    assert report["total_output_tokens"] == 12 * 16
    assert report["total_prompt_tokens"] == 12 * (40 + report["settings"]["prefix_len"])
    assert {request["output_tokens"] for request in report["requests"]} == {16}


def test_a_chat_is_measured_as_well(server):
    report = bench(server, "serve", "--chat", "--num-prompts", "4", "--output-len", "16")
    assert report["total_output_tokens"] == 4 * 16
    assert report["time_to_first_token"]["count"] == 4


def test_no_client_outlives_the_command_that_was_stopped(server):
    command = [
        str(YEOUL),
        "bench",
        "serve",
        "--url",
        server.url,
        "--num-prompts",
        "2000",
        "--output-len",
        "400",
        "--num-clients",
        "2",
    ]
    for number, exit_code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        clients = wait_for_clients(process.pid)
        process.send_signal(number)
        assert process.wait(10) == exit_code
        assert psutil.wait_procs(clients, timeout=5)[1] == []


def wait_for_clients(pid):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        clients = [child for child in psutil.Process(pid).children() if "BenchClient" in "".join(child.cmdline())]
        if len(clients) == 2:
            return clients
        time.sleep(0.05)
    raise AssertionError("the clients never started")
