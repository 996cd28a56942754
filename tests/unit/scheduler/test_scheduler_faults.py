"""What goes wrong between schedule and update, and that it harms nobody else."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.scheduler.desk import Desk, new_request, num_tokens_in
from tests.unit.scheduler.recomputing_worker import RecomputingWorker
from yeoul.messages.steps import RequestResult, StepResult


def test_an_abort_frees_the_blocks_at_once_and_no_output_follows():
    desk = Desk()
    desk.add(new_request("a", 20), new_request("b", 3))
    step = desk.schedule()
    desk.scheduler.abort(["a", "nobody"])
    assert desk.cache.num_used_blocks == 1
    assert [output.request_id for output in desk.answer(step)] == ["b"]
    assert desk.take_step().finished_request_ids == ["a"]


def test_an_abort_of_a_waiting_request_tells_the_workers_nothing():
    desk = Desk(max_num_seqs=1)
    desk.add(new_request("a", 3), new_request("b", 3))
    desk.take_step()
    desk.scheduler.abort(["b"])
    assert desk.take_step().finished_request_ids == []
    desk.run_to_end()


def test_an_answer_to_an_aborted_request_is_not_given_to_a_new_one_of_the_same_id():
    desk = Desk()
    desk.add(new_request("a", 3))
    step = desk.schedule()
    desk.scheduler.abort(["a"])
    again = new_request("a", [7, 7, 7, 7])
    desk.add(again)
    assert desk.answer(step) == []
    step = desk.take_step()
    assert step.finished_request_ids == ["a"]
    assert [new.prompt_token_ids for new in step.new_requests] == [[7, 7, 7, 7]]
    desk.run_to_end()
    assert desk.tokens_of("a") == desk.lone_tokens_of(again)


def test_the_new_request_of_an_old_id_may_even_be_in_the_next_step_before_the_old_answer():
    desk = Desk()
    desk.add(new_request("a", 3))
    old = desk.schedule()
    desk.scheduler.abort(["a"])
    again = new_request("a", [7, 7, 7, 7])
    desk.add(again)
    new = desk.schedule()
    assert desk.answer(old) == []
    assert [output.new_token_ids for output in desk.answer(new)] == [desk.lone_tokens_of(again)[:1]]


def test_a_fault_fails_its_request_and_no_other():
    desk = Desk()
    message = new_request("b", 3)
    desk.add(new_request("a", 3), message)
    desk.worker.faults = frozenset({"a"})
    first, second = desk.answer(desk.schedule())
    assert (first.request_id, first.finish_reason) == ("a", "error")
    assert first.fault is not None
    assert (first.fault.message, first.fault.status) == ("computing went wrong", 500)
    assert second.fault is None
    assert desk.take_step().finished_request_ids == ["a"]
    desk.run_to_end()
    assert desk.tokens_of("b") == desk.lone_tokens_of(message)


def test_a_fault_says_the_turn_of_its_request():
    desk = Desk()
    desk.add(msgspec.structs.replace(new_request("a", 3), turn=2))
    desk.worker.faults = frozenset({"a"})
    assert [(output.turn, output.finish_reason) for output in desk.answer(desk.schedule())] == [(2, "error")]


@pytest.mark.parametrize("is_aborted_before", [False, True])
def test_nobody_finds_the_prefix_that_a_failed_computation_left(is_aborted_before):
    desk = Desk()
    desk.add(new_request("a", list(range(9))))
    step = desk.schedule()
    if is_aborted_before:
        desk.scheduler.abort(["a"])
    desk.worker.faults = frozenset({"a"})
    desk.answer(step)
    message = new_request("b", list(range(9)))
    desk.add(message)
    assert num_tokens_in(desk.take_step()) == {"b": 9}
    desk.run_to_end()
    assert desk.tokens_of("b") == desk.lone_tokens_of(message)


@pytest.mark.parametrize("num_steps_before", [0, 1, 2])
@pytest.mark.parametrize("is_aborted_before", [False, True])
def test_nobody_finds_any_part_of_a_context_in_which_something_went_wrong(num_steps_before, is_aborted_before):
    """Numbers that are none do not show before the last token: blocks of earlier steps, and of others, may be to blame."""
    prompt = list(range(17))
    desk = Desk(max_num_batched_tokens=8)
    desk.add(new_request("earlier", prompt[:5], max_tokens=1))
    desk.run_to_end()
    desk.add(new_request("a", prompt))
    for _ in range(num_steps_before):
        desk.take_step()
    step = desk.schedule()
    if is_aborted_before:
        desk.scheduler.abort(["a"])
    desk.worker.faults = frozenset({"a"})
    desk.answer(step)
    desk.scheduler.abort(["a"])
    desk.worker.faults = frozenset()
    message = new_request("b", prompt)
    desk.add(message)
    desk.run_to_end()
    assert desk.outputs["b"][0].num_cached_tokens == 0
    assert desk.tokens_of("b") == desk.lone_tokens_of(message)


def test_a_request_without_the_answer_that_is_due_fails_instead_of_waiting_for_ever():
    desk = Desk()
    desk.add(new_request("a", 3), new_request("b", 3), new_request("c", 3))
    desk.scheduler.abort(["c"])
    outputs = desk.give(desk.schedule(), [RequestResult("b", [1])])
    assert {output.request_id: output.finish_reason for output in outputs} == {"b": None, "a": "error"}
    assert desk.scheduler.num_running == 1


def test_a_token_that_comes_too_early_fails_its_request():
    desk = Desk(max_num_batched_tokens=2)
    desk.add(new_request("a", 3))
    (output,) = desk.give(desk.schedule(), [RequestResult("a", [1])])
    assert output.fault is not None
    assert "before it had computed" in output.fault.message
    assert not desk.scheduler.has_unfinished


def test_an_answer_for_a_request_that_nobody_knows_is_ignored():
    desk = Desk()
    desk.add(new_request("a", 3))
    outputs = desk.give(desk.schedule(), [RequestResult("a", [1]), RequestResult("b", [1])])
    assert [output.request_id for output in outputs] == ["a"]


def test_after_new_workers_everything_goes_on_where_it_was():
    desk = Desk(max_num_batched_tokens=16)
    messages = [new_request("a", 6, max_tokens=9), new_request("b", 30, max_tokens=5), new_request("c", 9)]
    desk.add(*messages)
    desk.take_step()
    desk.take_step()
    lost = desk.schedule()
    last_step_number = lost.step_number
    desk.scheduler.requeue_all()
    assert (desk.scheduler.num_running, desk.cache.num_used_blocks) == (0, 0)
    desk.worker = RecomputingWorker(64, 4)
    assert desk.scheduler.update(lost, StepResult(last_step_number, [RequestResult("a", [1])])) == []
    step = desk.take_step()
    assert step.step_number > last_step_number
    assert step.finished_request_ids == []
    assert step.scheduled[0].num_computed_tokens == 0
    assert step.new_requests[0].output_token_ids == desk.lone_tokens_of(messages[0])[:2]
    desk.run_to_end()
    for message in messages:
        assert desk.tokens_of(message.request_id) == desk.lone_tokens_of(message)


def test_new_workers_get_no_prefix_of_the_old_ones():
    desk = Desk()
    desk.add(new_request("a", list(range(9))))
    desk.run_to_end()
    desk.scheduler.requeue_all()
    desk.add(new_request("b", list(range(9))))
    assert num_tokens_in(desk.schedule()) == {"b": 9}


def test_after_new_workers_the_shortest_context_goes_on_first_and_who_has_not_begun_last():
    desk = Desk(max_num_seqs=3, max_num_batched_tokens=40, enable_prefix_caching=False)
    desk.add(*(new_request(name, length, max_tokens=9) for name, length in {"long": 30, "short": 5, "middle": 9}.items()))
    desk.add(new_request("new", 3))
    while not all(desk.outputs.get(name) for name in ("long", "short", "middle")):
        desk.take_step()
    desk.scheduler.requeue_all()
    desk.worker = RecomputingWorker(64, 4)
    sent: list[str] = []
    while len(sent) < 3:
        sent += [new.request_id for new in desk.take_step().new_requests]
    assert sent[:3] == ["short", "middle", "long"]
    desk.run_to_end()


def test_the_shortest_context_goes_on_first_in_a_new_engine_too():
    desk = Desk(max_num_batched_tokens=8)
    desk.add(new_request("new", 3), new_request("long", 6, output_token_ids=[1] * 6, max_tokens=9))
    desk.add(new_request("short", 3, output_token_ids=[1], max_tokens=9))
    sent: list[str] = []
    while len(sent) < 3:
        sent += [new.request_id for new in desk.take_step().new_requests]
    assert sent == ["short", "long", "new"]


def crash(desk: Desk) -> list[str]:
    """The workers die and there are new ones; who is blamed for it."""
    outputs, _ = desk.scheduler.note_crash("they died")
    desk.worker = RecomputingWorker(64, 4, desk.worker.last_step_number)
    return [output.request_id for output in outputs]


def test_who_comes_with_deaths_is_tried_before_anybody_else_is_computed():
    desk = Desk()
    desk.add(new_request("innocent", 3), new_request("a", 3, num_deaths=2), new_request("b", 3, num_deaths=2))
    desk.add(new_request("c", 3, num_deaths=1))
    assert list(num_tokens_in(desk.take_step())) == ["a"]
    assert list(num_tokens_in(desk.take_step())) == ["b"]
    assert set(num_tokens_in(desk.take_step())) == {"a", "b", "innocent", "c"}
    desk.run_to_end()


def test_a_trial_that_others_took_part_in_is_no_death_alone():
    desk = Desk(max_num_batched_tokens=4)
    desk.add(new_request("a", 3, num_deaths=3), new_request("b", 3, num_deaths=3), new_request("c", 3, num_deaths=3))
    desk.take_step()  # the first of two that are tried
    step = desk.schedule()
    assert set(num_tokens_in(step)) == {"a", "b"}
    assert crash(desk) == []
    for blamed in ([], ["b"]):
        assert set(num_tokens_in(desk.schedule())) == {"b"}
        assert crash(desk) == blamed
    desk.run_to_end()
    assert {name for name in desk.outputs if desk.outputs[name][-1].fault is None} == {"a", "c"}


def test_who_is_given_up_while_it_is_tried_leaves_its_place_to_the_next():
    desk = Desk()
    desk.add(new_request("a", 3, num_deaths=2), new_request("b", 3, num_deaths=2), new_request("c", 3))
    step = desk.schedule()
    assert list(num_tokens_in(step)) == ["a"]
    desk.scheduler.abort(["a"])
    assert desk.answer(step) == []
    assert list(num_tokens_in(desk.take_step())) == ["b"]
    desk.run_to_end()


@pytest.mark.parametrize("are_complete", [True, False])
def test_an_answer_that_only_the_client_saw_end_teaches_how_long_answers_become(are_complete):
    desk = Desk(expected_tokens=100)
    desk.add(new_request("a", 3, max_tokens=200))
    for _ in range(5):
        desk.take_step()
    desk.scheduler.abort(["a"], are_complete=are_complete)
    desk.add(new_request("b", 3, max_tokens=200))
    request = next(iter(desk.scheduler._requests.values()))
    expected = desk.scheduler._forecast.num_tokens_to_come(request)
    assert expected == ((100 + 5) // 2 if are_complete else 100)


def test_a_request_that_failed_teaches_nothing():
    desk = Desk(expected_tokens=100)
    desk.add(new_request("a", 3, max_tokens=200))
    for _ in range(5):
        desk.take_step()
    desk.worker.faults = frozenset({"a"})
    desk.take_step()
    desk.add(new_request("b", 3, max_tokens=200))
    assert desk.scheduler._forecast.num_tokens_to_come(next(iter(desk.scheduler._requests.values()))) == 100
