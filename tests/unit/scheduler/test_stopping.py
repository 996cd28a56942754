"""When a request ends: the rules one by one."""

from __future__ import annotations

import pytest

from tests.unit.scheduler.desk import new_request
from yeoul.messages.sampling import SamplingParams
from yeoul.scheduler.stopping import Ending, StopRule


def rule(*, eos_token_ids: list[int] | None = None, max_num_tokens: int = 100, **sampling) -> StopRule:
    message = new_request("a", 10, eos_token_ids=eos_token_ids or [], sampling=SamplingParams(**sampling))
    return StopRule(message, max_num_tokens)


def test_any_end_of_sequence_token_ends_the_request_and_all_but_the_first_are_named():
    assert [rule(eos_token_ids=[2, 5, 4]).find_ending(token_id, 11) for token_id in (2, 5, 4, 3)] == [
        Ending("stop"),
        Ending("stop", 5),
        Ending("stop", 4),
        None,
    ]


def test_a_stop_token_ends_the_request_and_is_named():
    assert rule(stop_token_ids=[4]).find_ending(4, 11) == Ending("stop", 4)


def test_a_token_that_is_both_counts_as_end_of_sequence():
    assert rule(eos_token_ids=[4], stop_token_ids=[4]).find_ending(4, 11) == Ending("stop")


@pytest.mark.parametrize(("length", "ends"), [(11, False), (12, False), (13, True)])
def test_before_min_tokens_no_token_ends_the_request(length, ends):
    stop_rule = rule(eos_token_ids=[2], stop_token_ids=[4], min_tokens=3)
    assert [stop_rule.find_ending(token_id, length) is not None for token_id in (2, 4)] == [ends, ends]


def test_max_tokens_counts_the_output_alone():
    assert [rule(max_tokens=3).find_ending(1, length) for length in (12, 13)] == [None, Ending("length")]


def test_the_context_ends_a_request_without_a_limit():
    assert [rule(max_num_tokens=20).find_ending(1, length) for length in (19, 20)] == [None, Ending("length")]


def test_at_the_limit_a_stop_is_still_a_stop():
    assert rule(eos_token_ids=[2], max_tokens=1).find_ending(2, 11) == Ending("stop")
