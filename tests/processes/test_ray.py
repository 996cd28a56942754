"""Two nodes of a Ray cluster on this machine share a model; one is killed while streams run, which end as they would have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.test_kill_matrix import assert_drains, assert_same, serve
from tests.chaos.traffic import MIXED, SLOW, Answer, finish, send
from tests.running_server import RunningServer

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("default"),  # Ray's own are not ours
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that computes nothing, and two nodes with a processor each."""
    utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed here: pip install 'yeoul[ray]'")
    made = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    made.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def undisturbed() -> list[Answer]:
    with RunningServer(*SLOW) as server:
        return finish(send(server.url, MIXED))


def test_streams_go_on_to_the_same_last_character_when_a_node_is_killed(cluster, undisturbed):
    with serve(2, "--distributed-executor-backend", "ray") as server:
        clients = send(server.url, MIXED)
        assert all(client.started.wait(20.0) for client in clients)
        cluster.remove_node(cluster.nodes[1], allow_graceful=False)
        cluster.add_node(num_cpus=1)
        assert_same(finish(clients), undisturbed, server)
        assert_drains(server)
