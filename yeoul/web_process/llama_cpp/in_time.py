"""InTime: an answer that is read whole, or as far as it has come when its reader waits no longer; knows no HTTP.

An editor shows what comes within a second or not at all. What it gets is the beginning of the answer, to the bit.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from yeoul.web_process.engine.generation_output import GenerationOutput


class Deltas(Protocol):
    """Those of one choice, as they come."""

    def __aiter__(self) -> AsyncIterator[GenerationOutput]:
        """Each of them."""

    def close(self) -> None:
        """Gives up the rest."""


class InTime:
    """
    Args:
        deltas: of the answer.
        seconds: how long it may take from its first token on; but a line is not cut off.
        clock: the time in seconds.
    """

    def __init__(self, deltas: Deltas, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._deltas = deltas
        self._seconds = seconds
        self._clock = clock

    async def collect(self) -> list[GenerationOutput]:
        """The answer, which ends at the limit if it is over."""
        whole: GenerationOutput | None = None
        end = 0.0
        try:
            async for output in self._deltas:
                if whole is None:
                    whole, end = output, self._clock() + self._seconds
                else:
                    whole.merge(output)
                if whole.finish_reason is None and "\n" in whole.text and self._clock() >= end:
                    whole.finish_reason = "length"
                    break
        finally:
            self.close()
        return [] if whole is None else [whole]

    def close(self) -> None:
        """Gives up the rest. Harmless when repeated."""
        self._deltas.close()
