"""Steps of a pipeline: each leaves a part of those that decode to the other stages, and tells what the last one sampled."""

from __future__ import annotations

from collections import deque

import pytest

from tests.unit.scheduler.desk import Desk, new_request, num_tokens_in
from yeoul.messages.steps import StepInput


def desk_of(num_stages: int, num_requests: int) -> Desk:
    desk = Desk(num_stages=num_stages, num_blocks=512)
    desk.add(*(new_request(f"r{number}", 5, max_tokens=40) for number in range(num_requests)))
    return desk


def ids(step: StepInput) -> list[str]:
    return [entry.request_id for entry in step.scheduled]


@pytest.mark.parametrize("num_stages", [2, 3])
def test_all_stages_have_work_soon_and_no_request_is_in_two_steps(num_stages):
    desk = desk_of(num_stages, 7)
    in_flight: deque[StepInput] = deque()
    sizes = []
    for _ in range(30):
        while len(in_flight) < num_stages and (step := desk.scheduler.schedule()) is not None:
            in_flight.append(step)
        together = [request_id for step in in_flight for request_id in ids(step)]
        assert len(together) == len(set(together))
        sizes.append([len(step.scheduled) for step in in_flight])
        desk.answer(in_flight.popleft())
    assert all(len(each) == num_stages and max(each) - min(each) <= 1 + (num_stages > 2) for each in sizes[10:]), sizes
    lengths = [len(desk.tokens_of(f"r{number}")) for number in range(7)]
    assert max(lengths) - min(lengths) <= 1, "all make the same progress"


def test_a_request_that_is_alone_waits_for_its_token():
    desk = desk_of(2, 1)
    first = desk.schedule()
    assert desk.scheduler.schedule() is None
    desk.answer(first)
    assert num_tokens_in(desk.schedule()) == {"r0": 1}


def test_chunks_of_one_prompt_follow_each_other_through_the_pipeline():
    desk = Desk(num_stages=3, max_num_batched_tokens=8)
    desk.add(new_request("long", 30))
    steps = [desk.schedule() for _ in range(3)]
    assert [num_tokens_in(step) for step in steps] == [{"long": 8}, {"long": 8}, {"long": 8}]


def test_stages_that_do_not_sample_hear_of_each_token_once():
    desk = desk_of(2, 2)
    desk.answer(desk.schedule())
    second, third = desk.schedule(), desk.schedule()
    assert (second.sampled, third.sampled) == ({"r0": desk.tokens_of("r0")}, {"r1": desk.tokens_of("r1")})
    desk.answer(second)
    assert desk.schedule().sampled == {"r0": desk.tokens_of("r0")[1:]}


def test_who_comes_back_after_a_preemption_brings_all_tokens_along():
    desk = desk_of(2, 2)
    desk.answer(desk.schedule())
    desk.scheduler.requeue_all()
    again = desk.schedule()
    assert again.sampled == {}
    assert [new.output_token_ids for new in again.new_requests] == [desk.tokens_of("r0"), desk.tokens_of("r1")]


def test_one_stage_is_told_nothing():
    desk = desk_of(1, 2)
    desk.answer(desk.schedule())
    assert desk.schedule().sampled == {}
