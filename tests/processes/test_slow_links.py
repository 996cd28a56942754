"""Links over tcp in a network that is slow, reorders and loses packets, or all of them for seconds: the same text comes.

Workers apart from their EngineCore, and an engine apart from its web process; the clients are in the same network.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.traffic import MIXED, SLOW, Answer, finish, send
from tests.patience import until
from tests.running_server import RunningServer, free_port_pair
from tests.slow_network import SlowNetwork

APART = ["workers", "engine"]
STALLS_SECONDS = {"slow": [0.0], "stalls": [1.5, 3.0]}

# TCP tries again after 3 s and then only after 6; a worker whose step takes longer than 5 s is replaced.
HANGS_AFTER_SECONDS = 2.5


def told(answers: list[Answer]) -> object:
    """As it crosses from one process to another."""
    return json.loads(json.dumps([answer.content for answer in answers]))


@contextlib.contextmanager
def serving(apart: str, folder: str) -> Iterator[list[RunningServer]]:
    """The server that answers, then what else there is of it."""
    if apart == "workers":
        with RunningServer("--tensor-parallel-size", "2", "--distributed-executor-backend", "loopback", *SLOW) as server:
            yield [server]
        return
    link = ("--engine-address", f"tcp://127.0.0.1:{free_port_pair()}", "--engine-key-file", f"{folder}/engine.keys")
    with RunningServer("--headless", *link, *SLOW, ready_line="EngineCore") as engine, RunningServer(*link) as web:
        yield [web, engine]


def inside(apart: str, network_name: str) -> None:
    """What runs in the network: what is apart, and its clients. Prints the answers of each round of them."""
    network = SlowNetwork()
    with tempfile.TemporaryDirectory() as folder, serving(apart, folder) as servers:
        pids = [server.tree() for server in servers]
        network.begin(delay_seconds=0.005, jitter_seconds=0.003, loss=0.02, bytes_per_second=1e6)
        for seconds in STALLS_SECONDS[network_name]:
            clients = send(servers[0].url, MIXED)
            assert all(client.started.wait(20.0) for client in clients)
            network.stall(seconds)
            print(json.dumps(told(finish(clients))))
            if apart == "engine" or seconds < HANGS_AFTER_SECONDS:
                assert [server.tree() for server in servers] == pids, f"somebody has died of it:\n{servers[0].log()}"
        assert network.num_lost > 0


@pytest.fixture(scope="module")
def undisturbed() -> object:
    with RunningServer(*SLOW) as server:
        return told(finish(send(server.url, MIXED)))


def networks_can_be_made() -> bool:
    return (
        all(map(shutil.which, ["unshare", "ip"]))
        and os.access("/dev/net/tun", os.W_OK)
        and os.access("/proc/sys/net/ipv4/conf/all/rp_filter", os.W_OK)  # a container may have it to read alone
        and subprocess.run(["unshare", "-n", "ip", "tuntap", "add", "slow", "mode", "tun"], capture_output=True).returncode
        == 0
    )


def run_to_its_end(command: list[str], seconds: float) -> tuple[int, str, str]:
    """Its exit code, output and errors. It is ended if it takes longer."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except BaseException:
            interrupt(process)
            raise
        return process.returncode, output, errors


def interrupt(process: subprocess.Popen[str]) -> None:
    """Has it end the servers that it has started, which have sessions of their own, and outlive one that is killed."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()


def test_what_takes_too_long_ends_what_it_has_started(tmp_path):
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    program = (
        "import pathlib, sys, time\n"
        "try:\n  pathlib.Path(sys.argv[1]).touch()\n  time.sleep(600)\n"
        "finally:\n  pathlib.Path(sys.argv[2]).touch()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(begun), str(ended)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert until(begun.exists, 60)
        interrupt(process)
    assert ended.exists()


@pytest.mark.long
@pytest.mark.parametrize("network", STALLS_SECONDS)
@pytest.mark.parametrize("apart", APART)
def test_streams_are_the_same_in_a_bad_network(apart, network, undisturbed):
    if not networks_can_be_made():
        pytest.skip("needs the right to make networks, unshare, ip, /dev/net/tun and a /proc/sys that can be written")
    command = ["unshare", "-n", sys.executable, "-m", "tests.processes.test_slow_links", apart, network]
    code, output, errors = run_to_its_end(command, 120.0)
    assert code == 0, output + errors
    rounds = [json.loads(line) for line in output.splitlines()]
    assert rounds == [undisturbed] * len(STALLS_SECONDS[network])


if __name__ == "__main__":
    inside(sys.argv[1], sys.argv[2])
