"""Who has to leave memory so that another model has room."""

from __future__ import annotations

import math

import pytest

from yeoul.web_process.fleet.policy import Budget, Resident, Room, make_room

TURN = 5.0


def resident(
    name: str,
    *,
    num_bytes: int = 10,
    is_busy: bool = False,
    is_leaving: bool = False,
    used: float = 0.0,
    loaded: float = 0.0,
    in_gaps: bool = False,
) -> Resident:
    return Resident(name, num_bytes, is_busy or in_gaps, is_leaving, used, loaded, in_gaps)


def room(budget: Budget, *residents: Resident, num_bytes: int = 10, now: float = 100.0, in_gaps: bool = False) -> Room:
    return make_room(budget, residents, num_bytes, now, in_gaps=in_gaps)


def test_there_is_room_below_the_budget_and_nobody_has_to_go():
    assert room(Budget(2), resident("a")).is_there
    assert room(Budget(0, 20), resident("a")).is_there
    assert room(Budget(0, None), *map(resident, "abcdefg")).is_there


def test_whoever_was_used_longest_ago_goes_and_no_more_than_it_takes():
    found = room(Budget(2), resident("a", used=3.0), resident("b", used=1.0))
    assert (found.is_there, found.going, found.finishing) == (False, ["b"], [])
    found = room(Budget(0, 30), *(resident(name, used=at) for name, at in (("a", 3), ("b", 1), ("c", 2))), num_bytes=20)
    assert found.going == ["b", "c"]


def test_a_busy_one_never_goes_and_an_idle_one_that_was_used_later_does():
    found = room(Budget(2), resident("a", is_busy=True, used=1.0), resident("b", used=2.0))
    assert (found.going, found.finishing) == (["b"], [])


def test_for_one_that_is_leaving_already_nobody_else_goes():
    found = room(Budget(2), resident("a", is_leaving=True), resident("b"))
    assert found == Room()


def test_where_all_are_busy_the_first_that_was_loaded_finishes_once_its_turn_is_over():
    busy = [resident("a", is_busy=True, loaded=10.0), resident("b", is_busy=True, loaded=8.0)]
    early = room(Budget(2, turn_seconds=TURN), *busy, now=12.0)
    assert (early.finishing, early.look_again) == ([], 13.0)
    late = room(Budget(2, turn_seconds=TURN), *busy, now=13.0)
    assert (late.finishing, late.look_again) == (["b"], math.inf)


def test_one_that_only_fills_gaps_has_no_turn_and_finishes_before_all_others():
    busy = [resident("a", is_busy=True, loaded=10.0), resident("b", in_gaps=True, loaded=11.0)]
    found = room(Budget(2, turn_seconds=TURN), *busy, now=12.0)
    assert (found.finishing, found.look_again) == (["b"], math.inf)


def test_who_wants_what_is_left_gets_the_place_of_idle_ones_where_that_is_enough_and_no_others():
    busy = [resident("a", is_busy=True), resident("b", in_gaps=True)]
    assert room(Budget(2), *busy, in_gaps=True) == Room()
    assert room(Budget(0, 30), *busy, resident("c"), num_bytes=20, in_gaps=True) == Room()
    assert room(Budget(2), resident("a", is_busy=True), resident("c"), in_gaps=True).going == ["c"]
    assert room(Budget(3), *busy, in_gaps=True).is_there


def test_one_that_is_being_loaded_has_its_turn_still_before_it():
    found = room(Budget(1), resident("a", is_busy=True, loaded=math.inf))
    assert found == Room()


def test_bytes_and_models_both_have_to_fit():
    assert not room(Budget(3, 25), resident("a"), resident("b")).is_there
    assert not room(Budget(2, 100), resident("a"), resident("b")).is_there


@pytest.mark.parametrize(("num_bytes", "told"), [(10, None), (1 << 20, "it takes 1MiB")])
def test_one_that_can_never_fit_is_told_so(num_bytes: int, told: str | None):
    why = Budget(1, 1000).why_never(num_bytes)
    assert why is None if told is None else why is not None and told in why and "--models-memory-bytes" in why
