"""Two nodes of a Ray cluster on this machine share a model; one is killed while streams run, which end as they would have."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.test_kill_matrix import assert_drains, assert_same, serve
from tests.chaos.traffic import MIXED, SLOW, Answer, finish, send
from tests.running_server import RunningServer

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("default"),  # Ray's own are not ours
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One for all tests that leave it as they found it."""
    with two_nodes() as made:
        yield made


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A head that computes nothing, and two nodes with a processor each; one that is killed is followed by another."""
    utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed here: pip install 'yeoul[ray]'")
    made = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    made.wait_for_nodes()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_ADDRESS", made.address)
            yield made
    finally:
        made.shutdown()


@pytest.fixture(scope="module")
def undisturbed() -> list[Answer]:
    with RunningServer(*SLOW) as server:
        return finish(send(server.url, MIXED))


def hit(server: RunningServer, victim: str, cluster: Any) -> None:
    """Ends it as hardly as can be."""
    if victim == "node":
        cluster.remove_node(cluster.nodes.pop(), allow_graceful=False)
        cluster.nodes.append(cluster.add_node(num_cpus=1))
        return
    if victim in DAEMONS:
        node = cluster.head_node if victim == "gcs_server" else cluster.nodes.pop()
        (daemon,) = node.all_processes[victim]
        os.kill(daemon.process.pid, signal.SIGKILL)
        if victim == "raylet":
            cluster.nodes.append(cluster.add_node(num_cpus=1))
        return
    processes = httpx.get(f"{server.url}/topology").json()["processes"]
    (pid,) = [process["pid"] for process in processes if process["name"] == victim.removeprefix("actor of ")]
    if victim.startswith("actor"):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(pid, signal.SIGKILL)


DAEMONS = ("raylet", "gcs_server")  # Ray's own: of a node, and of the head
VICTIMS = [("--tensor-parallel-size", victim) for victim in ("node", "raylet", "Worker_1", "actor of Worker_0", "EngineCore")]


@pytest.mark.parametrize(
    ("flag", "victim"), [*VICTIMS, ("--pipeline-parallel-size", "node"), ("--pipeline-parallel-size", "Worker_1")]
)
def test_streams_go_on_to_the_same_last_character(flag, victim, cluster, undisturbed):
    with serve(1, flag, "2", "--distributed-executor-backend", "ray") as server:
        clients = send(server.url, MIXED)
        assert all(client.started.wait(20.0) for client in clients)
        hit(server, victim, cluster)
        assert_same(finish(clients), undisturbed, server)
        assert_drains(server)


def test_streams_go_on_while_ray_has_lost_its_head(undisturbed):
    with two_nodes() as cluster, serve(1, "--tensor-parallel-size", "2", "--distributed-executor-backend", "ray") as server:
        clients = send(server.url, MIXED)
        assert all(client.started.wait(20.0) for client in clients)
        hit(server, "gcs_server", cluster)
        assert_same(finish(clients), undisturbed, server)
        assert_same(finish(send(server.url, MIXED)), undisturbed, server)


def test_a_cluster_without_room_is_told_with_what_is_free(cluster):
    flags = ("--tensor-parallel-size", "3", "--distributed-executor-backend", "ray", "--worker-ready-timeout-seconds", "5")
    with RunningServer(*flags, wait=False) as server:
        assert server.wait_exit(60.0) == 1
        assert "room for 3 workers with CPU 1 each; free on its nodes: CPU 2" in server.log()
