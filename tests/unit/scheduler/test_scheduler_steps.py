"""What goes into a step: decodes first, prompts in chunks, new requests as long as there is room for them."""

from __future__ import annotations

import pytest

from tests.unit.scheduler.desk import Desk, new_request, num_tokens_in
from yeoul.messages.sampling import SamplingParams


def test_a_request_is_sent_once_and_then_only_its_counters_and_new_blocks():
    desk = Desk()
    message = new_request("a", 6, max_tokens=4, choice_index=1, eos_token_ids=[9])
    desk.add(message)
    first, *later = desk.run_to_end()
    (sent,) = first.new_requests
    assert (sent.prompt_token_ids, sent.output_token_ids) == (message.prompt_token_ids, [])
    assert (sent.choice_index, sent.eos_token_ids) == (1, [9])
    assert [(e.num_computed_tokens, e.num_new_tokens, len(e.new_block_ids)) for e in first.scheduled] == [(0, 6, 2)]
    assert all(not step.new_requests for step in later)
    counters = [(e.num_computed_tokens, e.num_new_tokens, len(e.new_block_ids)) for step in later for e in step.scheduled]
    assert counters == [(6, 1, 0), (7, 1, 0), (8, 1, 1)]
    assert [step.step_number for step in (first, *later)] == [0, 1, 2, 3]


def test_nothing_to_do_is_no_step():
    desk = Desk()
    assert desk.scheduler.schedule() is None
    assert not desk.scheduler.has_unfinished


def test_a_long_prompt_is_computed_in_chunks_of_the_budget():
    desk = Desk(max_num_batched_tokens=10)
    message = new_request("a", 25, max_tokens=1)
    desk.add(message)
    assert [num_tokens_in(step) for step in desk.run_to_end()] == [{"a": 10}, {"a": 10}, {"a": 5}]
    assert desk.tokens_of("a") == desk.lone_tokens_of(message)


def test_decodes_go_before_prompts_and_prompts_share_what_is_left():
    desk = Desk(max_num_batched_tokens=8)
    desk.add(new_request("long", 20))
    desk.take_step()
    desk.add(new_request("short", 2, max_tokens=9))
    assert num_tokens_in(desk.take_step()) == {"long": 8}
    assert num_tokens_in(desk.take_step()) == {"long": 4, "short": 2}
    desk.add(new_request("third", 30))
    assert num_tokens_in(desk.take_step()) == {"long": 1, "short": 1, "third": 6}
    assert num_tokens_in(desk.take_step()) == {"long": 1, "short": 1, "third": 6}


def test_a_running_decode_is_not_held_up_by_an_older_prompt_in_chunks():
    desk = Desk(max_num_batched_tokens=8, long_prefill_token_threshold=6)
    desk.add(new_request("long", 30), new_request("short", 2))
    assert num_tokens_in(desk.take_step()) == {"long": 6, "short": 2}
    assert list(num_tokens_in(desk.take_step()).items()) == [("short", 1), ("long", 6)]


def test_the_threshold_cuts_long_prompts_so_that_others_fit_beside_them():
    desk = Desk(max_num_batched_tokens=20, long_prefill_token_threshold=8)
    desk.add(new_request("a", 16), new_request("b", 9), new_request("c", 9))
    assert num_tokens_in(desk.take_step()) == {"a": 8, "b": 8, "c": 4}


def test_no_more_requests_run_than_may():
    desk = Desk(max_num_seqs=2)
    desk.add(*(new_request(name, 3) for name in "abc"))
    assert list(num_tokens_in(desk.take_step())) == ["a", "b"]
    assert (desk.scheduler.num_running, desk.scheduler.num_waiting) == (2, 1)
    desk.run_to_end()


def test_a_second_step_is_scheduled_while_the_first_is_in_flight():
    desk = Desk(max_num_batched_tokens=8, async_scheduling=False)
    desk.add(new_request("a", 4), new_request("b", 10))
    first, second = desk.schedule(), desk.schedule()
    assert num_tokens_in(first) == {"a": 4, "b": 4}
    assert num_tokens_in(second) == {"b": 6}
    assert desk.scheduler.schedule() is None
    assert desk.scheduler.has_unfinished
    desk.answer(first)
    assert num_tokens_in(desk.schedule()) == {"a": 1}


def test_finished_ids_wait_for_the_next_real_step():
    desk = Desk()
    desk.add(new_request("a", 3, max_tokens=1))
    desk.take_step()
    assert desk.scheduler.schedule() is None
    desk.add(new_request("b", 3))
    assert desk.take_step().finished_request_ids == ["a"]
    assert desk.take_step().finished_request_ids == []


def test_first_output_carries_what_comes_once():
    desk = Desk()
    desk.add(new_request("a", 9, max_tokens=2))
    desk.run_to_end()
    desk.add(new_request("b", desk_prompt("a", 9), max_tokens=2))
    desk.run_to_end()
    first, second = desk.outputs["b"]
    assert (first.num_cached_tokens, first.queue_seconds) == (8, 10.0)
    assert (second.num_cached_tokens, second.queue_seconds) == (0, None)


def test_log_probabilities_pass_through_and_end_with_the_request():
    from yeoul.messages.outputs import TokenLogprobs
    from yeoul.messages.steps import RequestResult

    desk = Desk()
    desk.add(new_request("a", 3, sampling=SamplingParams(max_tokens=5, logprobs=1), eos_token_ids=[7]))
    step = desk.schedule()
    entries = [TokenLogprobs([token], [-0.5], 1) for token in (5, 7, 6)]
    (output,) = desk.give(step, [RequestResult("a", [5, 7, 6], entries)])
    assert (output.new_token_ids, output.new_logprobs, output.finish_reason) == ([5, 7], entries[:2], "stop")


def test_prompt_log_probabilities_are_gathered_across_chunks_and_come_with_the_first_token():
    from yeoul.messages.outputs import TokenLogprobs
    from yeoul.messages.steps import RequestResult

    desk = Desk(max_num_batched_tokens=2)
    desk.add(new_request("a", 3, sampling=SamplingParams(max_tokens=5, prompt_logprobs=0)))
    entries = [None, TokenLogprobs([1], [-1.0], 1), TokenLogprobs([2], [-2.0], 2)]
    assert desk.give(desk.schedule(), [RequestResult("a", prompt_logprobs=entries[:2])]) == []
    (output,) = desk.give(desk.schedule(), [RequestResult("a", [4], prompt_logprobs=entries[2:])])
    assert output.prompt_logprobs == entries
    (output,) = desk.give(desk.schedule(), [RequestResult("a", [4], prompt_logprobs=entries)])
    assert output.prompt_logprobs == []


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_an_embedding_request_ends_with_its_vector_and_no_token(pooling):
    desk = Desk(max_model_len=8)
    desk.add(new_request("a", 8, pooling=pooling))
    desk.run_to_end()
    (output,) = desk.outputs["a"]
    assert (output.new_token_ids, output.finish_reason) == ([], "stop")
    assert output.embedding is not None


def test_output_of_an_earlier_engine_counts_as_output():
    desk = Desk()
    message = new_request("a", 5, max_tokens=6)
    expected = desk.lone_tokens_of(message)
    desk.add(new_request("a", 5, max_tokens=6, output_token_ids=expected[:4]))
    (first, _) = desk.run_to_end()
    assert first.new_requests[0].output_token_ids == expected[:4]
    assert num_tokens_in(first) == {"a": 9}
    assert desk.tokens_of("a") == expected[4:]


def test_statistics_count_what_happened():
    desk = Desk()
    desk.add(new_request("a", 9, max_tokens=2))
    desk.run_to_end()
    desk.add(new_request("b", desk_prompt("a", 9), max_tokens=5), new_request("c", 3))
    desk.take_step()
    statistics = desk.scheduler.statistics()
    assert (statistics.num_running, statistics.num_waiting, statistics.num_used_blocks) == (2, 0, 4)
    assert (statistics.total_steps, statistics.total_prompt_tokens, statistics.total_output_tokens) == (3, 21, 4)
    assert (statistics.total_prefix_queried_tokens, statistics.total_prefix_hit_tokens) == (21, 8)
    assert (statistics.num_blocks, statistics.total_preemptions) == (64, 0)


def desk_prompt(request_id: str, num_tokens: int) -> list[int]:
    return new_request(request_id, num_tokens).prompt_token_ids
