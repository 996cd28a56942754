"""What crosses between pipeline stages: whole steps in their order; anything else is an error that says what came."""

from __future__ import annotations

import pytest

from yeoul.errors import TransportClosedError, TransportError
from yeoul.worker_process.stage_neighbours import StageNeighbours


class Wire:
    """Both ends of a link."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def send(self, payload: bytes) -> None:
        self.payloads.append(payload)

    def receive(self) -> bytes:
        if not self.payloads:
            raise TransportClosedError("closed")
        return self.payloads.pop(0)

    def close(self) -> None:
        self.payloads.clear()


@pytest.fixture
def stages():
    wire = Wire()
    return StageNeighbours(behind=wire), StageNeighbours(before=wire)


def test_rows_come_as_they_went_and_may_be_written_to(stages):
    first, second = stages
    first.send(7, b"rows")
    rows = second.receive(7, 4)
    rows[0] = 0
    assert rows == b"\0ows"


@pytest.mark.parametrize(
    ("number", "num_bytes", "found"), [(8, 4, "4 bytes of step 7; expected 4 of step 8"), (7, 6, "expected 6")]
)
def test_rows_of_another_step_or_size_are_refused(stages, number, num_bytes, found):
    first, second = stages
    first.send(7, b"rows")
    with pytest.raises(TransportError, match=found):
        second.receive(number, num_bytes)


def test_a_broken_link_says_which_one_it_is(stages):
    with pytest.raises(TransportError, match="from the pipeline stage before"):
        stages[1].receive(1, 1)


def test_a_stage_that_computes_apart_gets_zeros_and_hands_on_nothing(stages):
    first, second = stages
    with first.apart(), second.apart():
        first.send(1, b"rows")
        assert second.receive(1, 3) == b"\0\0\0"
    first.send(2, b"x")
    assert second.receive(2, 1) == b"x"


def test_waiting_is_counted_once(stages):
    first, second = stages
    first.send(1, b"rows")
    second.receive(1, 4)
    assert second.take_waited() > 0.0
    assert second.take_waited() == 0.0
