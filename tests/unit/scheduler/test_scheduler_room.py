"""When room is short: preemption, the way back, order, priority, the bounded queue, and prefixes that save room."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from tests.unit.scheduler.desk import Desk, new_request, num_tokens_in
from yeoul.kv_cache.block_hash import extend_hashes
from yeoul.messages.sampling import SamplingParams
from yeoul.scheduler.scheduler import MAX_NUM_DEFERRED


def test_a_preempted_request_keeps_its_tokens():
    desk = Desk(num_blocks=6, expected_tokens=1)
    messages = [new_request("a", 4, max_tokens=16), new_request("b", 4, max_tokens=16)]
    desk.add(*messages)
    steps = desk.run_to_end()
    assert desk.scheduler.statistics().total_preemptions > 0
    assert [desk.tokens_of(name) for name in "ab"] == [desk.lone_tokens_of(message) for message in messages]
    sent = [new.request_id for step in steps for new in step.new_requests]
    assert sent.count("a") == 1, "the older request is never preempted"
    assert sent.count("b") == 1 + desk.scheduler.statistics().total_preemptions


def test_a_preempted_request_is_forgotten_by_the_workers_and_comes_back_with_its_output():
    desk = Desk(num_blocks=6, expected_tokens=1)
    desk.add(new_request("a", 4, max_tokens=20), new_request("b", 4, max_tokens=16))
    desk.take_step()
    while desk.scheduler.num_running == 2:
        desk.take_step()
    made = desk.tokens_of("b")
    assert made
    for step in desk.run_to_end():
        for new in step.new_requests:
            assert (new.request_id, new.output_token_ids) == ("b", made)
    assert desk.tokens_of("b")[: len(made)] == made


def test_a_preempted_request_finds_its_own_blocks_again():
    desk = Desk(num_blocks=6, expected_tokens=1)
    desk.add(new_request("a", 4, max_tokens=14), new_request("b", 4, max_tokens=16))
    steps = desk.run_to_end()
    (start_again,) = [
        entry
        for step in steps[1:]
        for entry in step.scheduled
        if entry.request_id in {new.request_id for new in step.new_requests}
    ]
    assert start_again.num_computed_tokens > 0
    assert desk.scheduler.statistics().total_prefix_hit_tokens == 0, "which is no hit of a prompt"


def test_a_preempted_request_is_not_readmitted_only_to_be_preempted_again():
    desk = Desk(num_blocks=8, expected_tokens=1)
    desk.add(*(new_request(name, 4, max_tokens=24) for name in "abc"))
    desk.run_to_end()
    assert desk.scheduler.statistics().total_preemptions <= 4


def test_a_request_too_large_for_now_is_not_overtaken():
    desk = Desk(num_blocks=10)
    desk.add(new_request("running", 16, max_tokens=8))
    desk.take_step()
    desk.add(new_request("large", 30, max_tokens=2), new_request("small", 2))
    sent = [new.request_id for step in desk.run_to_end() for new in step.new_requests]
    assert sent == ["large", "small"]


def test_a_request_as_large_as_the_cache_runs_alone():
    desk = Desk(num_blocks=4)
    message = new_request("a", 15, max_tokens=50)
    desk.add(message)
    desk.run_to_end()
    assert desk.tokens_of("a") == desk.lone_tokens_of(message)
    assert desk.outputs["a"][-1].finish_reason == "length"


def test_priority_decides_who_runs_and_arrival_decides_among_equals():
    desk = Desk(scheduling_policy="priority", max_num_seqs=1)
    for name, priority in (("late", 5), ("first", 0), ("second", 0), ("urgent", -3)):
        desk.add(new_request(name, 3, max_tokens=1, priority=priority))
    sent = [new.request_id for step in desk.run_to_end() for new in step.new_requests]
    assert sent == ["urgent", "first", "second", "late"]


def test_under_fcfs_priority_means_nothing():
    desk = Desk(max_num_seqs=1)
    desk.add(new_request("a", 3, max_tokens=1, priority=5), new_request("b", 3, max_tokens=1, priority=-5))
    assert [new.request_id for step in desk.run_to_end() for new in step.new_requests] == ["a", "b"]


def test_the_least_urgent_request_is_preempted_even_if_it_came_first():
    desk = Desk(scheduling_policy="priority", num_blocks=6, expected_tokens=1)
    desk.add(new_request("patient", 4, max_tokens=16, priority=1))
    desk.take_step()
    desk.add(new_request("urgent", 4, max_tokens=16, priority=0))
    steps = desk.run_to_end()
    sent = [new.request_id for step in steps for new in step.new_requests]
    assert sent.count("urgent") == 1
    assert sent.count("patient") >= 1
    assert desk.scheduler.statistics().total_preemptions >= 1


def test_the_queue_is_bounded():
    desk = Desk(max_num_seqs=1, max_num_waiting_requests=2)
    desk.add(*(new_request(name, 3) for name in "abc"))
    fault = desk.scheduler.add(new_request("d", 3))
    assert fault is not None
    assert fault.status == 429
    assert "3 new requests run or wait, and 3 may" in fault.message
    desk.scheduler.abort(["b"])
    desk.add(new_request("d", 3))


def test_the_bound_is_for_those_that_have_got_nothing_yet():
    desk = Desk(max_num_seqs=1, max_num_waiting_requests=1)
    desk.add(new_request("a", 3, max_tokens=9))
    desk.take_step()
    desk.add(new_request("b", 3), new_request("c", 3))
    assert desk.scheduler.add(new_request("d", 3)) is not None
    desk.add(new_request("stream of an engine that died", 3, output_token_ids=[1, 2]))
    desk.run_to_end()


def test_an_id_in_use_is_not_taken_twice_and_its_owner_goes_on():
    desk = Desk()
    desk.add(new_request("a", 3), new_request("a", 5))
    desk.run_to_end()
    assert len(desk.tokens_of("a")) == 4
    assert all(output.fault is None for output in desk.outputs["a"])


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (new_request("a", []), "no tokens"),
        (new_request("a", [-1]), "expected 0 to"),
        (new_request("a", [2**31]), "expected 0 to"),
        (new_request("a", [1], output_token_ids=[2**40]), "expected 0 to"),
        (new_request("a", 16), "at most 15 fit"),
        (new_request("a", 17, pooling="last"), "at most 16 fit"),
        (new_request("a", 10, output_token_ids=[1] * 6, max_tokens=9), "at most 15 fit"),
        (new_request("a", 3, output_token_ids=[1, 2], max_tokens=2), "nothing is left"),
    ],
)
def test_a_request_that_could_never_run_is_refused_with_the_reason(message, words):
    desk = Desk(num_blocks=4)
    fault = desk.scheduler.add(message)
    assert fault is not None
    assert fault.status == 400
    assert words in fault.message
    assert not desk.scheduler.has_unfinished


def test_choices_of_one_prompt_compute_it_once():
    desk = Desk()
    messages = [new_request(f"a{i}", list(range(21)), choice_index=i) for i in range(8)]
    desk.add(*messages)
    first, second = desk.take_step(), desk.take_step()
    assert num_tokens_in(first) == {"a0": 21}
    assert num_tokens_in(second) == {"a0": 1, **{f"a{i}": 1 for i in range(1, 8)}}
    desk.run_to_end()
    for message in messages:
        assert desk.tokens_of(message.request_id) == desk.lone_tokens_of(message)


def test_who_waits_for_a_prefix_does_not_hold_up_who_does_not():
    desk = Desk()
    desk.add(*(new_request(name, list(range(9))) for name in ("a", "same")), new_request("other", 5))
    assert list(num_tokens_in(desk.take_step())) == ["a", "other"]
    assert list(num_tokens_in(desk.take_step())) == ["a", "other", "same"]


def test_a_step_passes_over_a_bounded_number_of_requests():
    desk = Desk(num_blocks=256)
    desk.add(*(new_request(f"same{i}", list(range(9))) for i in range(MAX_NUM_DEFERRED + 1)), new_request("other", 5))
    assert list(num_tokens_in(desk.take_step())) == ["same0"]
    assert len(desk.take_step().scheduled) == MAX_NUM_DEFERRED + 2


def test_a_whole_prompt_in_the_cache_still_computes_its_last_token():
    desk = Desk()
    desk.add(new_request("a", list(range(8))))
    desk.run_to_end()
    desk.add(new_request("b", list(range(8))))
    (entry,) = desk.take_step().scheduled
    assert (entry.num_computed_tokens, entry.num_new_tokens) == (4, 4)


@pytest.mark.parametrize(
    "fields",
    [
        {"sampling": SamplingParams(max_tokens=1, prompt_logprobs=0)},
        {"pooling": "mean"},
        {"cache_salt": "another tenant"},
    ],
)
def test_some_requests_use_no_known_prefix(fields):
    desk = Desk()
    desk.add(new_request("a", list(range(9))))
    desk.run_to_end()
    desk.add(new_request("b", list(range(9)), **fields))
    (entry,) = desk.take_step().scheduled
    assert (entry.num_computed_tokens, entry.num_new_tokens) == (0, 9)


def test_without_prefix_caching_every_prompt_is_computed():
    desk = Desk(enable_prefix_caching=False)
    desk.add(*(new_request(name, list(range(9)), max_tokens=2) for name in "ab"))
    assert num_tokens_in(desk.take_step()) == {"a": 9, "b": 9}
    desk.run_to_end()
    assert desk.scheduler.statistics().total_prefix_hit_tokens == 0


@pytest.mark.parametrize("pooling", [None, "last"])
def test_a_request_whose_last_answer_is_on_its_way_is_not_preempted(pooling):
    """It would be computed again whole, for what is there already; its blocks come back with the step in flight."""
    desk = Desk(num_blocks=8, expected_tokens=1, async_scheduling=True)
    old, young = new_request("old", 7, max_tokens=23), new_request("young", 7, max_tokens=1, pooling=pooling)
    desk.add(old, young)
    in_flight = []
    while (step := desk.scheduler.schedule()) is not None:  # until the old one needs a block, and waits for that of the young
        in_flight.append(step)
    assert in_flight[-1].scheduled[-1].num_computed_tokens == 23
    for step in in_flight:
        desk.answer(step)
    assert desk.outputs["young"][-1].finish_reason is not None
    desk.run_to_end()
    assert desk.scheduler.statistics().total_preemptions == 0
    assert desk.tokens_of("old") == desk.lone_tokens_of(old)


def test_a_full_queue_takes_requests_that_another_engine_had_begun():
    desk = Desk(max_num_seqs=1, max_num_waiting_requests=1)
    desk.add(new_request("a", 3), new_request("b", 3))
    fault = desk.scheduler.add(new_request("c", 3))
    assert fault is not None
    assert fault.status == 429
    resumed = new_request("d", 3)
    desk.add(new_request("d", 3, output_token_ids=desk.lone_tokens_of(resumed)[:2]))
    desk.run_to_end()
    assert desk.tokens_of("d") == desk.lone_tokens_of(resumed)[2:]


def test_choices_of_one_prompt_are_hashed_once_and_looked_up_when_something_has_changed(monkeypatch):
    desk = Desk(long_prefill_token_threshold=8)
    hash_blocks = Mock(wraps=extend_hashes)
    find_prefix = Mock(wraps=desk.cache.find_prefix)
    monkeypatch.setattr("yeoul.scheduler.request.extend_hashes", hash_blocks)
    monkeypatch.setattr(desk.cache, "find_prefix", find_prefix)
    desk.add(*(new_request(str(number), list(range(33)), max_tokens=1, choice_index=number) for number in range(10)))
    steps = [desk.schedule(), desk.schedule()]
    assert [num_tokens_in(step) for step in steps] == [{"0": 8}, {"0": 8}]
    assert find_prefix.call_count == 10  # the second time they know what they wait for
    for step in steps:
        desk.answer(step)
    desk.run_to_end()
    assert [desk.outputs[str(number)][0].num_cached_tokens for number in range(10)] == [0, *[32] * 9]
    assert hash_blocks.call_count == 1
