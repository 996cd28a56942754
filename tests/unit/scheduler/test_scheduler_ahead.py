"""Asynchronous scheduling: a step goes out while the tokens that it builds on are still being sampled."""

from __future__ import annotations

import pytest

from tests.unit.scheduler.desk import Desk, new_request, num_tokens_in
from yeoul.messages.sampling import SamplingParams


def desk_ahead(**settings) -> Desk:
    return Desk(async_scheduling=True, **settings)


def test_the_next_token_is_scheduled_while_the_last_one_is_sampled():
    desk = desk_ahead()
    message = new_request("a", 3, max_tokens=4)
    desk.add(message)
    first, second, third = desk.schedule(), desk.schedule(), desk.schedule()
    assert [(e.num_computed_tokens, e.num_new_tokens) for s in (second, third) for e in s.scheduled] == [(3, 1), (4, 1)]
    for step in (first, second, third):
        (output,) = desk.answer(step)
        assert len(output.new_token_ids) == 1
    desk.run_to_end()
    assert desk.tokens_of("a") == desk.lone_tokens_of(message)


def test_without_the_setting_a_request_waits_for_its_token():
    desk = Desk(async_scheduling=False)
    desk.add(new_request("a", 3))
    desk.schedule()
    assert desk.scheduler.schedule() is None


@pytest.mark.parametrize("limit", ["max_tokens", "max_model_len"])
def test_the_last_token_that_a_limit_allows_is_not_followed(limit):
    desk = desk_ahead(max_model_len=5 if limit == "max_model_len" else 100)
    desk.add(new_request("a", 3, max_tokens=2 if limit == "max_tokens" else 50))
    steps = [desk.schedule(), desk.schedule()]
    assert desk.scheduler.schedule() is None
    assert [output.finish_reason for step in steps for output in desk.answer(step)] == [None, "length"]
    assert not desk.scheduler.has_unfinished


@pytest.mark.parametrize("by", ["eos", "stop token"])
def test_what_was_computed_after_the_end_is_thrown_away(by):
    alone = new_request("a", 3, max_tokens=50)
    end = Desk().lone_tokens_of(alone)[0]
    if by == "eos":
        message = new_request("a", 3, max_tokens=50, eos_token_ids=[end])
    else:
        message = new_request("a", 3, sampling=SamplingParams(max_tokens=50, seed=0, stop_token_ids=[end]))
    desk = desk_ahead()
    desk.add(message)
    first, second = desk.schedule(), desk.schedule()
    (output,) = desk.answer(first)
    assert (output.new_token_ids, output.finish_reason) == ([end], "stop")
    assert desk.cache.num_used_blocks == 0
    assert desk.answer(second) == []
    assert not desk.scheduler.has_unfinished
    assert desk.scheduler.drain_finished() == ["a"]


def test_the_blocks_of_a_request_that_ended_serve_others_while_a_step_still_writes_to_them():
    """Steps run in order, so what the late step writes is overwritten by whoever has the block now."""
    end = Desk().lone_tokens_of(new_request("a", 3))[0]
    desk = desk_ahead(num_blocks=3, max_model_len=12)
    desk.add(new_request("a", 3, max_tokens=8, eos_token_ids=[end]))
    first, second = desk.schedule(), desk.schedule()
    desk.answer(first)
    other = new_request("b", 9, max_tokens=3)
    desk.add(other)
    third = desk.schedule()
    assert third.finished_request_ids == ["a"]
    desk.answer(second)
    desk.answer(third)
    desk.run_to_end()
    assert desk.tokens_of("b") == desk.lone_tokens_of(other)


def test_a_token_that_comes_after_its_request_was_preempted_is_sampled_again():
    desk = desk_ahead(num_blocks=6, max_model_len=24, expected_tokens=1)
    old, young = new_request("old", 7, max_tokens=9), new_request("young", 3, max_tokens=9)
    desk.add(old, young)
    in_flight = [desk.schedule()]
    while not desk.scheduler.statistics().total_preemptions:
        in_flight.append(desk.schedule())
        if len(in_flight) == 3:
            desk.answer(in_flight.pop(0))
    num_tokens = len(desk.tokens_of("young"))
    for step in in_flight:
        desk.answer(step)
    assert len(desk.tokens_of("young")) == num_tokens
    desk.run_to_end()
    for message in (old, young):
        assert desk.tokens_of(message.request_id) == desk.lone_tokens_of(message)


def test_a_block_filled_ahead_is_found_by_others_once_its_step_is_back():
    desk = desk_ahead()
    message = new_request("a", 3, max_tokens=4)
    first_token = desk.lone_tokens_of(message)[0]
    desk.add(message)
    first, second = desk.schedule(), desk.schedule()  # the second one fills the first block with a token not known yet
    follower = new_request("b", [*message.prompt_token_ids, first_token, 77], max_tokens=2)
    desk.add(follower)
    early = desk.schedule()
    assert "b" in num_tokens_in(early)  # nobody knows yet that both begin alike
    desk.answer(first)
    latecomer = new_request("c", [*message.prompt_token_ids, first_token, 78], max_tokens=2)
    desk.add(latecomer)
    late = desk.scheduler.schedule()
    assert late is None or "c" not in num_tokens_in(late)  # passed over: the block is being filled
    for step in filter(None, (second, early, late)):
        desk.answer(step)
    desk.run_to_end()
    assert desk.outputs["c"][0].num_cached_tokens == 4
    for request in (message, follower, latecomer):
        assert desk.tokens_of(request.request_id) == desk.lone_tokens_of(request)


def test_a_request_that_fails_takes_no_names_of_blocks_that_its_neighbours_filled():
    desk = desk_ahead()
    message, neighbour = new_request("a", 3, max_tokens=4), new_request("bad", 3)
    desk.add(message, neighbour)
    first, second = desk.schedule(), desk.schedule()
    desk.worker.faults = frozenset({"bad"})
    desk.answer(first)
    desk.worker.faults = frozenset()
    desk.answer(second)
    desk.run_to_end()
    begin = [*message.prompt_token_ids, desk.lone_tokens_of(message)[0]]
    follower = new_request("c", [*begin, 77], max_tokens=1)
    desk.add(follower)
    desk.run_to_end()
    assert desk.outputs["c"][0].num_cached_tokens == 4
    assert desk.tokens_of("c") == desk.lone_tokens_of(follower)


def test_an_embedding_is_not_followed_by_tokens():
    desk = desk_ahead()
    desk.add(new_request("a", 3, pooling="last"))
    desk.schedule()
    assert desk.scheduler.schedule() is None


@pytest.mark.parametrize("num_in_flight", [1, 2, 3])
@pytest.mark.parametrize("num_tokens_at_once", [2, 3, 7])
def test_a_step_may_bring_several_tokens_whatever_follows_it(num_tokens_at_once, num_in_flight):
    desk = desk_ahead()
    desk.worker.num_tokens_at_once = num_tokens_at_once
    messages = [new_request("a", 3, max_tokens=23), new_request("b", 9, max_tokens=20)]
    desk.add(*messages)
    in_flight = []
    while desk.scheduler.has_unfinished:
        step = desk.scheduler.schedule()
        in_flight += [step] if step is not None else []
        if len(in_flight) == num_in_flight or step is None:
            desk.answer(in_flight.pop(0))
    for message in messages:
        assert desk.tokens_of(message.request_id) == desk.lone_tokens_of(message)
    desk.add(new_request("next", [*messages[0].prompt_token_ids, *desk.tokens_of("a"), 77], max_tokens=1))
    desk.run_to_end()
    assert desk.outputs["next"][0].num_cached_tokens >= 4 * ((3 + 23 - num_tokens_at_once) // 4)


def test_an_answer_that_was_computed_ahead_is_found_by_the_next_turn_of_a_conversation():
    desk = desk_ahead()
    message = new_request("a", 3, max_tokens=14)
    desk.add(message)
    in_flight = [desk.schedule()]
    while desk.scheduler.has_unfinished:
        step = desk.scheduler.schedule()
        in_flight += [step] if step is not None else []
        desk.answer(in_flight.pop(0))
    conversation = [*message.prompt_token_ids, *desk.tokens_of("a")]
    desk.add(new_request("next", [*conversation, 77], max_tokens=1))
    desk.run_to_end()
    assert len(conversation) == 17
    assert desk.outputs["next"][0].num_cached_tokens == 16
