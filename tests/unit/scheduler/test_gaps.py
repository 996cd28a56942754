"""Requests that fill gaps: computed in steps that nobody else needs, in nobody's way, and as if nothing had happened."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.scheduler.desk import Desk, new_request, num_tokens_in
from yeoul.messages.requests import AddRequest


def filler(name: str, prompt: int = 8, max_tokens: int = 6, **fields: object) -> AddRequest:
    return new_request(name, prompt, max_tokens=max_tokens, in_gaps=True, tenant="batches", **fields)


def names_in(desk: Desk) -> set[str]:
    """Who is in the next step."""
    return set(num_tokens_in(desk.take_step()))


def test_a_step_is_for_others_as_long_as_there_is_one():
    desk = Desk()
    desk.add(filler("a"), filler("b"))
    assert names_in(desk) == {"a", "b"}
    desk.add(new_request("live", 8, max_tokens=3))
    assert [names_in(desk) for _ in range(3)] == [{"live"}] * 3
    assert names_in(desk) == {"a", "b"}
    assert desk.scheduler.statistics().total_preemptions == 0, "they kept their blocks meanwhile"
    desk.run_to_end()


@pytest.mark.parametrize("policy", ["fcfs", "priority"])
def test_others_come_first_whatever_came_first_and_whatever_priority_they_have(policy):
    desk = Desk(max_num_seqs=1, scheduling_policy=policy)
    desk.add(filler("a", priority=-5))
    desk.add(new_request("live", 8, priority=5, max_tokens=1))
    assert names_in(desk) == {"live"}


def test_all_places_are_those_of_others():
    desk = Desk(max_num_seqs=2)
    desk.add(filler("a"), filler("b"))
    desk.take_step()
    desk.add(new_request("x", 8), new_request("y", 8))
    assert names_in(desk) == {"x", "y"}
    desk.run_to_end()
    assert desk.tokens_of("a") == desk.lone_tokens_of(filler("a"))


def test_all_blocks_are_those_of_others():
    desk = Desk(num_blocks=16, expected_tokens=1)
    desk.add(filler("a", 24, 8), filler("b", 8, 8))
    desk.take_step()
    desk.add(new_request("live", 48, max_tokens=8))
    assert names_in(desk) == {"live"}
    assert desk.scheduler.statistics().total_preemptions >= 1
    desk.run_to_end()
    for message in (filler("a", 24, 8), filler("b", 8, 8), new_request("live", 48, max_tokens=8)):
        assert desk.tokens_of(message.request_id) == desk.lone_tokens_of(message)


def test_one_that_grows_takes_the_blocks_of_who_fills_gaps_first_and_others_still_come_in():
    desk = Desk(num_blocks=10, expected_tokens=1)
    desk.add(new_request("live", 12, max_tokens=12))
    desk.take_step()
    desk.add(filler("a", 4))
    desk.run_to_end()
    assert desk.tokens_of("a") == desk.lone_tokens_of(filler("a", 4))


def test_who_fills_gaps_takes_no_place_in_the_queue():
    desk = Desk(max_num_seqs=2, max_num_waiting_requests=2)
    desk.add(*(filler(f"f{number}") for number in range(50)))
    desk.add(*(new_request(f"n{number}", 4) for number in range(4)))
    fault = desk.scheduler.add(new_request("one too many", 4))
    assert fault is not None
    assert fault.status == 429


def test_they_are_counted_apart():
    desk = Desk(max_num_seqs=2)
    desk.add(*(filler(f"f{number}") for number in range(5)), new_request("live", 4))
    desk.take_step()
    desk.take_step()
    now = desk.scheduler.statistics()
    assert (now.num_running, now.num_waiting, now.num_in_gaps) == (1, 0, 5)


def test_a_known_prefix_outlasts_any_number_of_them():
    desk = Desk(num_blocks=32)
    prompt = [7, *range(100, 131)]  # 8 blocks
    desk.add(new_request("live", prompt, max_tokens=1))
    desk.run_to_end()
    desk.add(*(filler(f"f{number}", 16, 4) for number in range(40)))
    desk.run_to_end()
    desk.add(new_request("again", prompt, max_tokens=1))
    assert num_tokens_in(desk.take_step()) == {"again": 4}


def test_one_alone_may_take_whatever_it_needs():
    desk = Desk(num_blocks=16)
    desk.add(filler("a", 56, 8))
    desk.run_to_end()
    assert desk.tokens_of("a") == desk.lone_tokens_of(filler("a", 56, 8))


def test_a_step_of_theirs_is_short_although_nobody_decodes():
    desk = Desk(num_blocks=256, max_num_batched_tokens=512, max_model_len=1024, max_decode_pause_milliseconds=75)
    desk.add(filler("a", 400, 1))
    sizes = []
    while desk.scheduler.has_unfinished:
        step = desk.schedule()
        sizes.append(sum(num_tokens_in(step).values()))
        result = desk.worker.execute(msgspec.msgpack.encode(step))
        desk.give(step, msgspec.structs.replace(result, compute_seconds=sizes[-1] * 0.001))
    assert sizes[0] == 32, "nothing is known yet of how long steps take"
    assert max(sizes) <= 80, "a millisecond a token"
    assert len(sizes) < 12


def test_where_nobody_ever_leaves_a_gap_who_no_longer_waits_for_one_has_the_share_of_a_tenant():
    desk, seen = Desk(max_num_seqs=2), list[set[str]]()
    due = new_request("due", 8, max_tokens=3, tenant="batches of t")
    desk.add(filler("gap"), due)
    for number in range(40):
        desk.add(new_request(f"live {number}", 8, max_tokens=4, tenant="live"))
        seen.append(names_in(desk))
    assert not any("gap" in names for names in seen)
    assert sum("due" in names for names in seen) == 3
    desk.run_to_end()
    assert desk.tokens_of("due") == desk.lone_tokens_of(due)
    assert desk.tokens_of("gap") == desk.lone_tokens_of(filler("gap"))
