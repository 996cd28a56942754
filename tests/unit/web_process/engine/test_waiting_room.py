"""The waiting room: its bounds, how tenants share it, and the guesses when there is room again and when an answer is done."""

from __future__ import annotations

import pytest

from yeoul.errors import InvalidRequestError, TooManyRequestsError
from yeoul.web_process.engine.waiting_room import WaitingRoom


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def room_for(num_requests: int = 4, num_tokens: int = 1000, num_tenants: int = 1, clock: Clock | None = None) -> WaitingRoom:
    return WaitingRoom(num_requests, num_tokens, num_tenants, clock or Clock())


def fill(room: WaitingRoom, *names: str, tenant: str = "", num_tokens: int = 10) -> None:
    for name in names:
        room.check(tenant, 1, num_tokens)
        room.enter(name, tenant, num_tokens, is_alone=False)


def refusal(room: WaitingRoom, num_requests: int = 1, num_tokens: int = 10, tenant: str = "") -> TooManyRequestsError:
    with pytest.raises(TooManyRequestsError) as caught:
        room.check(tenant, num_requests, num_tokens)
    return caught.value


def test_who_has_got_something_waits_no_longer():
    room = room_for(4)
    fill(room, *"abcd")
    assert "4 requests wait and 4 may" in refusal(room).message
    room.note_served(["a", "unknown"])
    room.note_gone(["b"])
    fill(room, *"ef")
    refusal(room)
    room.note_served(["a", "b"])
    refusal(room)


def test_the_tokens_of_the_prompts_are_bounded_too():
    room = room_for(100, num_tokens=1000)
    fill(room, "a", "b", num_tokens=400)
    assert "prompts of 800 tokens wait and 1000 may" in refusal(room, num_tokens=201).message
    room.check("", 1, 200)
    room.note_served(["a"])
    room.check("", 1, 600)


def test_a_prompt_longer_than_the_room_waits_alone():
    room = room_for(100, num_tokens=1000)
    fill(room, "long", num_tokens=5000)
    refusal(room)
    room.note_gone(["long"])
    room.check("", 1, 5000)


def test_more_than_can_ever_wait_is_the_requests_own_fault():
    with pytest.raises(InvalidRequestError, match="at most 4"):
        room_for(4).check("", 5, 0)
    with pytest.raises(InvalidRequestError, match="at most 1000"):
        room_for(4).check("", 2, 1001)


def test_a_flood_with_one_key_leaves_room_for_the_others():
    room = room_for(12, num_tenants=3)
    fill(room, *"abcdefgh", tenant="flood")
    assert "8 requests wait and 12 may, and what is left is kept for other API keys" in refusal(room, tenant="flood").message
    fill(room, *"ij", tenant="second")
    refusal(room, tenant="second")
    refusal(room, tenant="flood")
    fill(room, *"kl", tenant="third")
    assert "12 requests wait and 12 may" in refusal(room, tenant="third").message


def test_what_is_anybodys_goes_to_who_comes_first():
    room = room_for(12, num_tenants=3)
    fill(room, *"abcdefgh", tenant="second")
    room.note_served("abc")
    fill(room, *"xyz", tenant="third")
    with pytest.raises(InvalidRequestError, match="at most 8"):
        room.check("flood", 9, 0)


def test_retry_after_follows_how_fast_requests_are_served():
    def guess(seconds_a_request: float) -> int:
        clock = Clock()
        room = room_for(4, clock=clock)
        fill(room, *"abcd")
        for number in range(20):
            clock.now += seconds_a_request
            served = "abcd"[number % 4]
            room.note_served([served])
            fill(room, served)
        return refusal(room, 2).retry_after_seconds

    assert guess(0.01) == 1
    assert guess(2.9) == 6
    assert guess(1000.0) == 60


def test_retry_after_for_a_long_prompt_follows_how_fast_prompts_are_computed():
    clock = Clock()
    room = room_for(100, num_tokens=1000, clock=clock)
    fill(room, *"abcde", num_tokens=200)
    for name in "abc":
        clock.now += 2.0
        room.note_served([name])
        fill(room, name, num_tokens=200)
    assert refusal(room, num_tokens=500).retry_after_seconds == 5


def test_idle_time_does_not_make_requests_look_slow():
    clock = Clock()
    room = room_for(4, clock=clock)
    fill(room, "a")
    clock.now += 0.5
    room.note_served(["a"])
    clock.now += 5000.0
    fill(room, *"abcd")
    assert refusal(room, 2).retry_after_seconds == 1


def test_who_would_miss_the_deadline_is_refused_and_told_when_to_come():
    clock = Clock()
    room = room_for(100, clock=clock)
    room.check_deadline(0.001, 1000, 0)
    room.enter("first", "", 10, is_alone=True)
    fill(room, *(f"r{index}" for index in range(19)))
    room.check_deadline(0.001, 1000, 20)
    for _ in range(10):
        clock.now += 0.5
        room.note_answers([11])
    room.note_served(f"r{index}" for index in range(15))
    room.check_deadline(14.0, 1000, 20)  # 21 x 0.5 s are ten and a half
    room.check_deadline(10.0, 6, 20)  # 5 that wait, and 16 that ask for half as much
    with pytest.raises(TooManyRequestsError, match="20 requests are in the engine or wait") as caught:
        room.check_deadline(10.0, 1000, 20)
    assert caught.value.retry_after_seconds == 3
    room.check_deadline(0.001, 1000, 0)


def test_idle_time_does_not_make_answers_look_slow():
    clock = Clock()
    room = room_for(100, clock=clock)
    for name in "abc":
        clock.now += 1000.0
        room.enter(name, "", 10, is_alone=True)
        clock.now += 0.5
        room.note_answers([11])
    room.check_deadline(1.5, 1000, 1)
    with pytest.raises(TooManyRequestsError):
        room.check_deadline(1.0, 1000, 1)


def test_what_is_expected_goes_by_how_fast_others_got_something():
    clock = Clock()
    room = room_for(100, clock=clock)
    fill(room, *"abcd")
    assert room.expected_wait(1) is None
    for name in "ab":
        clock.now += 0.5
        room.note_served([name])
    assert room.expected_wait(2) == pytest.approx(1.0)
    clock.now += 3.0  # nobody since
    assert room.queue_place(2) == (2, 6.0)


def test_where_all_places_in_the_steps_are_taken_one_has_to_be_left_for_each():
    clock = Clock()
    room = room_for(100, clock=clock)
    fill(room, "first")
    clock.now += 0.1
    room.note_served(["first"])
    assert room.expected_wait(1, num_seats=4) is None, "how soon others found a free one says nothing"
    room.note_answers([100, 200], seat_seconds=16.0)  # eight each
    fill(room, *"abc")
    assert [room.expected_wait(place, num_seats=4) for place in (1, 2, 3)] == [2.0, 4.0, 6.0]
    clock.now += 0.5
    assert room.expected_wait(1, num_seats=4) == pytest.approx(1.5)
    clock.now += 1.4  # any moment now, or not
    assert room.expected_wait(1, num_seats=4) == pytest.approx(1.0)
    clock.now += 8.1  # as late as ten seconds make it
    assert room.expected_wait(2, num_seats=4) == pytest.approx(2.0 + 8.0)


def test_the_time_of_a_load_is_not_that_of_an_answer():
    clock = Clock()
    room = room_for(100, clock=clock)
    room.enter("held", "", 10, is_alone=True)
    clock.now += 60.0
    room.note_engine(is_idle=True)
    clock.now += 0.5
    room.note_served(["held"])
    room.note_answers([10], 0.5)
    room.check_deadline(30.0, 10, 1)
    fill(room, "a")
    assert room.expected_wait(1) == pytest.approx(0.5)


def test_an_engine_that_goes_on_after_all_says_how_long_its_answers_take():
    clock = Clock()
    room = room_for(100, clock=clock)
    room.enter("computed", "", 10, is_alone=True)
    clock.now += 40.0
    room.note_engine(is_idle=False)
    room.note_answers([10], 40.0)
    with pytest.raises(TooManyRequestsError):
        room.check_deadline(30.0, 10, 1)


def test_what_waits_at_other_doors_takes_room_but_has_no_part_in_guesses():
    room = WaitingRoom(4, 100)
    room.note_others({"key": (3, 60)})
    assert room.left("") == (4, 1, 100, 40)
    room.check("", 1, 40)
    with pytest.raises(TooManyRequestsError, match="3 requests wait and 4 may"):
        room.check("", 2, 2)
    with pytest.raises(TooManyRequestsError, match="prompts of 60 tokens wait"):
        room.check("", 1, 41)
    room.note_others({})
    assert room.left("") == (4, 4, 100, 100)


def test_each_door_keeps_the_share_of_other_tenants_wherever_they_wait():
    room = WaitingRoom(8, 1000, num_tenants=2)
    room.note_others({"other": (2, 10)})
    assert room.left("own").requests == 6  # the two that are kept for the other are taken by it
    room.note_others({"own": (4, 10)})
    assert room.left("own").requests == 2
    assert room.left("other").requests == 4
