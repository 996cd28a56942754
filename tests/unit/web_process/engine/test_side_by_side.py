"""Jobs side by side: so many at a time and no more, each once, and the first that fails ends the others."""

from __future__ import annotations

import asyncio

import pytest

from yeoul.web_process.engine.side_by_side import work_off


def test_so_many_at_a_time_and_each_once():
    at_once: list[int] = []
    done: list[int] = []
    running: set[int] = set()

    async def work(job: int) -> None:
        running.add(job)
        at_once.append(len(running))
        await asyncio.sleep(0)
        running.remove(job)
        done.append(job)

    asyncio.run(work_off(iter(range(20)), 3, work))
    assert max(at_once) == 3
    assert done == list(range(20))


def test_the_first_that_fails_ends_the_others():
    taken: list[int] = []
    ended: list[int] = []

    async def work(job: int) -> None:
        taken.append(job)
        if job == 1:
            raise KeyError(job)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(job)

    with pytest.raises(KeyError):
        asyncio.run(work_off(iter(range(20)), 3, work))
    assert (sorted(taken), sorted(ended)) == ([0, 1, 2], [0, 2])
