"""LineTurns: when each line of a batch stops waiting for gaps, so that all are answered within the batch's window.

A line is for the gaps that other requests leave; if there were none until it is due, it is served as any other request
is. The lines of a batch are due evenly over the first nine tenths of its window, in their order. Knows no engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

_SHARE_OF_WINDOW = 0.9

Answer = TypeVar("Answer")
Answering = Callable[[], Awaitable[Answer]]


class LineTurns:
    """Of one batch.

    Args:
        start, end: of its window.
        num_lines: in all.
        now: the time, as ``start`` and ``end`` have it.
        others: a place each among the requests that do not wait for gaps, of all batches together.
    """

    def __init__(
        self, start: float, end: float, num_lines: int, *, now: Callable[[], float], others: asyncio.Semaphore
    ) -> None:
        self._start = start
        self._seconds_a_line = (end - start) * _SHARE_OF_WINDOW / max(1, num_lines)
        self._now = now
        self._others = others

    def seconds_left(self, index: int) -> float:
        """How long the line, the first being 0, is still for gaps."""
        return max(0.0, self._start + (index + 1) * self._seconds_a_line - self._now())

    async def answer(self, index: int, in_gaps: Answering[Answer], in_time: Answering[Answer]) -> Answer:
        """What comes of ``in_gaps``; if that is not there when the line is due, of ``in_time``, which begins anew."""
        trying = asyncio.ensure_future(in_gaps())
        turn = asyncio.create_task(self._take_turn(index), name="wait_for_turn")
        try:
            await asyncio.wait({trying, turn}, return_when=asyncio.FIRST_COMPLETED)
            if trying.done():
                return trying.result()
            trying.cancel()
            await asyncio.wait({trying})
            return await in_time()
        finally:
            for task in (trying, turn):
                task.cancel()
            await asyncio.gather(trying, turn, return_exceptions=True)
            if not turn.cancelled():
                self._others.release()

    async def _take_turn(self, index: int) -> None:
        await asyncio.sleep(self.seconds_left(index))
        await self._others.acquire()
