"""Workers over tcp in a network of their own that is slow, loses packets, or all of them for a while: the same text comes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import pytest

from tests.chaos.traffic import MIXED, SLOW, Answer, finish, send
from tests.running_server import RunningServer

SLOW_NETWORK = ("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "5ms", "2ms", "loss", "2%")
NETWORKS = ["slow", "cut for two seconds"]
_NO_SUCH_NETWORK = 77


def told(answers: list[Answer]) -> object:
    """As it crosses from one process to another."""
    return json.loads(json.dumps([answer.content for answer in answers]))


def inside(network: str) -> None:
    """What runs in the network: a server with two workers, and its clients."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with RunningServer("--tensor-parallel-size", "2", "--distributed-executor-backend", "loopback", *SLOW) as server:
        pids = server.tree()
        clients = send(server.url, MIXED)
        assert all(client.started.wait(20.0) for client in clients)
        if network == "slow":
            if subprocess.run(SLOW_NETWORK).returncode:
                sys.exit(_NO_SUCH_NETWORK)
        else:
            subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
            time.sleep(2.0)
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        answers = finish(clients)
        assert server.tree() == pids, f"somebody has died of it:\n{server.log()}"
    print(json.dumps(told(answers)))


@pytest.mark.long
@pytest.mark.parametrize("network", NETWORKS)
def test_streams_are_the_same_in_a_bad_network_and_nobody_dies_of_it(network):
    tools = ["unshare", "ip", "tc"]
    if not all(map(shutil.which, tools)) or subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        pytest.skip(f"needs the right to make networks, and {', '.join(tools)}")
    command = ["unshare", "-n", sys.executable, "-m", "tests.processes.test_slow_links", network]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode == _NO_SUCH_NETWORK:
        pytest.skip(f"this kernel cannot make a network slow: {done.stderr}")
    assert done.returncode == 0, done.stderr
    with RunningServer(*SLOW) as server:
        assert json.loads(done.stdout.splitlines()[-1]) == told(finish(send(server.url, MIXED)))


if __name__ == "__main__":
    inside(sys.argv[1])
