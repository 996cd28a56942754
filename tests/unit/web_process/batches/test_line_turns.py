"""When a line of a batch waits for gaps no longer: the law of its turns, and that no place is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.errors import RequestFailedError
from yeoul.web_process.batches.line_turns import LineTurns

DAY = 86_400.0


def turns_at(now: float, *, num_lines: int = 4, others: asyncio.Semaphore | None = None) -> LineTurns:
    return LineTurns(0.0, DAY, num_lines, now=lambda: now, others=others or asyncio.Semaphore(1))


@given(st.integers(1, 50_000), st.floats(0, DAY))
def test_every_line_is_due_in_its_order_and_before_the_last_tenth_of_the_window(num_lines, now):
    turns = turns_at(now, num_lines=num_lines)
    left = [turns.seconds_left(index) for index in range(0, num_lines, max(1, num_lines // 7))]
    assert left == sorted(left)
    assert all(seconds >= 0 for seconds in left)
    assert turns.seconds_left(num_lines - 1) <= max(0.0, DAY * 0.9 - now) + 1e-6
    num_due = sum(turns.seconds_left(index) == 0 for index in range(min(num_lines, 1000)))
    assert num_due >= min(num_lines, 1000, int(num_lines * now / DAY)), "never behind the clock"


async def never() -> str:
    await asyncio.Event().wait()
    return "never"


async def at_once(answer: str = "in time") -> str:
    return answer


def test_a_line_that_is_answered_in_a_gap_takes_no_other_place():
    async def scene() -> None:
        others = asyncio.Semaphore(1)
        turns = turns_at(0.0, others=others)
        assert await turns.answer(3, lambda: at_once("in a gap"), never) == "in a gap"
        assert not others.locked()

    asyncio.run(scene())


def test_a_line_that_is_due_begins_anew_among_the_others_and_gives_its_place_back():
    async def scene() -> None:
        others = asyncio.Semaphore(1)
        turns, given_up = turns_at(DAY / 2, others=others), asyncio.Event()

        async def in_gaps() -> str:
            try:
                return await never()
            finally:
                given_up.set()

        assert await turns.answer(0, in_gaps, at_once) == "in time"
        assert given_up.is_set()
        assert not others.locked()

    asyncio.run(scene())


def test_of_lines_that_are_due_only_some_are_among_the_others_and_the_rest_still_wait_for_gaps():
    async def scene() -> None:
        others, gap = asyncio.Semaphore(1), asyncio.Event()
        turns, among_others = turns_at(DAY, others=others), asyncio.Event()

        async def in_gaps() -> str:
            await gap.wait()
            return "in a gap"

        async def in_time() -> str:
            among_others.set()
            return await never()

        first = asyncio.create_task(turns.answer(0, in_gaps, in_time))
        await among_others.wait()
        second = asyncio.create_task(turns.answer(1, in_gaps, in_time))
        gap.set()
        assert await second == "in a gap"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert not others.locked()

    asyncio.run(scene())


@pytest.mark.parametrize("fails_in_gaps", [True, False])
def test_an_error_costs_no_place(fails_in_gaps):
    async def scene() -> None:
        others = asyncio.Semaphore(1)

        async def fail() -> str:
            raise RequestFailedError("no")

        def first() -> Awaitable[str]:
            return fail() if fails_in_gaps else never()

        with pytest.raises(RequestFailedError):
            await turns_at(DAY, others=others).answer(0, first, fail)
        assert not others.locked()

    asyncio.run(scene())
