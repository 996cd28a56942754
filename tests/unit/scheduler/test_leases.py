"""Leases: a prefix is found again after a flood, for its time and within its share, and nobody waits for it or fails."""

from __future__ import annotations

import pytest

from tests.unit.scheduler.desk import Desk, new_request
from yeoul.messages.requests import Lease

PROMPT = [7, *range(100, 131)]  # 8 blocks


def desk_after_lease(*, share: int = 16, num_tokens: int = 32) -> Desk:
    desk = Desk(num_blocks=32, max_num_leased_blocks=share)
    desk.add(new_request("live", PROMPT, max_tokens=1, leases=[Lease(num_tokens, 300.0)]))
    desk.run_to_end()
    return desk


def flood(desk: Desk, num_requests: int = 20) -> None:
    """Others, two at a time, who need ten blocks."""
    for number in range(0, num_requests, 2):
        for place in (number, number + 1):
            prompt = [int(desk.now) * 100 + place, *range(1, 16)]
            desk.add(new_request(f"{desk.now:g} {place}", prompt, max_tokens=4))
        desk.run_to_end()


def num_found(desk: Desk, leases: list[Lease] | None = None) -> int:
    desk.add(new_request(f"again at {desk.now:g}", PROMPT, max_tokens=1, leases=leases or []))
    desk.run_to_end()
    return desk.outputs[f"again at {desk.now:g}"][0].num_cached_tokens


@pytest.mark.parametrize(
    ("share", "num_tokens", "expected"), [(16, 32, 28), (16, 20, 20), (16, 19, 16), (3, 32, 12), (0, 32, 0)]
)
def test_a_leased_prefix_outlasts_a_flood_as_far_as_the_lease_and_the_share_reach(share, num_tokens, expected):
    desk = desk_after_lease(share=share, num_tokens=num_tokens)
    told = desk.outputs["live"][0].num_leased_tokens
    assert told == min(num_tokens // 4, share) * 4
    assert desk.scheduler.statistics().num_leased_blocks == told // 4
    flood(desk)
    assert num_found(desk) == expected


def test_a_lease_ends():
    desk = desk_after_lease()
    desk.now += 299
    flood(desk)
    assert num_found(desk) == 28
    desk.now += 2
    flood(desk)
    assert desk.scheduler.statistics().num_leased_blocks == 0
    assert num_found(desk) == 0


def test_who_asks_for_it_again_has_it_anew():
    desk = desk_after_lease()
    for _ in range(3):
        desk.now += 200
        flood(desk)
        assert num_found(desk, [Lease(32, 300.0)]) == 28


def test_parts_can_be_kept_for_different_times():
    desk = Desk(num_blocks=32, max_num_leased_blocks=16)
    desk.add(new_request("live", PROMPT, max_tokens=1, leases=[Lease(12, 3600.0), Lease(32, 300.0)]))
    desk.run_to_end()
    desk.now += 301
    flood(desk)
    assert num_found(desk) == 12


def test_whoever_needs_all_blocks_gets_them():
    desk = desk_after_lease()
    desk.add(new_request("large", 100, max_tokens=20))
    desk.take_step()
    desk.run_to_end()
    assert desk.tokens_of("large") == desk.lone_tokens_of(new_request("large", 100, max_tokens=20))
    assert num_found(desk) < 28


def test_what_failed_is_not_kept():
    desk = Desk(num_blocks=32, max_num_leased_blocks=16)
    desk.add(new_request("live", PROMPT, max_tokens=4, leases=[Lease(32, 300.0)]))
    desk.take_step()
    desk.worker.faults = frozenset({"live"})
    desk.run_to_end()
    assert desk.scheduler.statistics().num_leased_blocks == 0


def test_leases_go_with_the_workers():
    desk = desk_after_lease()
    desk.scheduler.requeue_all()
    assert desk.scheduler.statistics().num_leased_blocks == 0


def test_one_that_was_given_up_keeps_what_it_had_computed():
    desk = Desk(num_blocks=32, max_num_leased_blocks=16)
    desk.add(new_request("live", PROMPT, max_tokens=4, leases=[Lease(32, 300.0)]))
    desk.take_step()
    desk.scheduler.abort(["live"])
    desk.outputs.clear()
    flood(desk)
    assert num_found(desk) == 28


@pytest.mark.parametrize(
    "leases", [[Lease(33, 1.0)], [Lease(-1, 1.0)], [Lease(4, float("nan"))], [Lease(4, -1.0)], [Lease(4, 1.0)] * 5]
)
def test_a_lease_that_makes_no_sense_is_refused(leases):
    fault = Desk().scheduler.add(new_request("live", PROMPT, leases=leases))
    assert fault is not None
    assert fault.status == 400
