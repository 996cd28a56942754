"""Many jobs, so many at a time: for whoever has more to ask for than the engine takes at once; knows no engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Job = TypeVar("Job")


async def work_off(jobs: Iterable[Job], num_at_a_time: int, work: Callable[[Job], Awaitable[None]]) -> None:
    """Does ``work`` for each job; a job is taken as it is its turn. The first that fails ends the others, and its error is
    raised.
    """
    left = iter(jobs)

    async def take_jobs() -> None:
        for job in left:
            await work(job)

    takers = [asyncio.create_task(take_jobs(), name="take_jobs") for _ in range(num_at_a_time)]
    try:
        await asyncio.gather(*takers)
    finally:
        for taker in takers:
            taker.cancel()
        await asyncio.gather(*takers, return_exceptions=True)
