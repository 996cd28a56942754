"""Links over tcp in a network that is slow, reorders and loses packets, or all of them for seconds: the same text comes.

Workers apart from their EngineCore, and an engine apart from its web process; the clients are in the same network.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.traffic import MIXED, SLOW, Answer, finish, send
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
        and subprocess.run(["unshare", "-n", "ip", "tuntap", "add", "slow", "mode", "tun"], capture_output=True).returncode
        == 0
    )


@pytest.mark.long
@pytest.mark.parametrize("network", STALLS_SECONDS)
@pytest.mark.parametrize("apart", APART)
def test_streams_are_the_same_in_a_bad_network(apart, network, undisturbed):
    if not networks_can_be_made():
        pytest.skip("needs the right to make networks, unshare, ip and /dev/net/tun")
    command = ["unshare", "-n", sys.executable, "-m", "tests.processes.test_slow_links", apart, network]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert rounds == [undisturbed] * len(STALLS_SECONDS[network])


if __name__ == "__main__":
    inside(sys.argv[1], sys.argv[2])
