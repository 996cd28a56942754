"""Links between stages on several hosts: they find each other where ranks meet, and what breaks is told to whoever waits."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.patience import until
from tests.unit.worker_process.fake_worker import fake_settings
from yeoul.errors import TransportError
from yeoul.transport.curve_keys import new_keys
from yeoul.transport.meeting import MeetingPlace
from yeoul.transport.sockets import EngineContext
from yeoul.transport.tcp_channel import TcpHandle
from yeoul.worker_process.stage_links import meet_neighbours
from yeoul.worker_process.stage_neighbours import StageNeighbours


@pytest.fixture
def stages() -> Iterator[list[StageNeighbours]]:
    """Three, each of one rank."""
    keys = new_keys()
    context = EngineContext(keys)
    place = MeetingPlace(context, "tcp://127.0.0.1:*")
    meeting, stage_keys = TcpHandle(place.address, keys), new_keys()

    def meet(rank: int) -> StageNeighbours:
        return meet_neighbours(fake_settings(rank=rank, pipeline_parallel_size=3), meeting, stage_keys)

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(meet, range(3)))
    yield found
    for one in found:
        one.close()
    place.close()
    context.close()


def test_what_a_stage_hands_on_comes_to_the_one_behind_it(stages):
    first, second, third = stages
    first.send(1, b"x" * 3_000_000)
    rows = second.receive(1, 3_000_000)
    second.send(1, bytes(rows[:4]))
    assert third.receive(1, 4) == b"xxxx"


@pytest.mark.parametrize("who", ["the one that waits", "the one that sends"])
def test_the_end_of_a_stage_is_told_to_its_neighbour(who, stages):
    first, second, _ = stages
    if who == "the one that waits":
        first.close()
        with pytest.raises(TransportError, match="from the pipeline stage before is broken"):
            second.receive(1, 1)
        return
    second.close()

    told: list[str] = []

    def is_told() -> bool:
        try:
            first.send(1, b"x")
        except TransportError as error:
            told.append(str(error))
        return bool(told)

    assert until(is_told, 10.0)
    assert "to the pipeline stage behind is broken" in told[0]
