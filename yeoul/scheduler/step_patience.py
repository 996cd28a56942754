"""StepPatience: the longest that steps of a size took of late, by which a step that hangs is told from one that is long.

Knows nothing of what a step should take: an expectation may be wrong, and a worker is killed by this. Called by
StepBudget, for the executor's limit.
"""

from __future__ import annotations

from collections import deque

from yeoul.scheduler.plan import StepPlan

_NUM_STEPS = 32  # of each size that are remembered
_KEYS = 1024  # so many keys read count as one token


class StepPatience:
    """Sizes are told apart by their powers of two."""

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = {}

    def note(self, plan: StepPlan, seconds: float) -> None:
        """Takes what a step that came back took; 0 is a worker that did not measure."""
        if seconds > 0:
            self._seconds.setdefault(_size_of(plan), deque(maxlen=_NUM_STEPS)).append(seconds)

    def longest(self, plan: StepPlan) -> float | None:
        """Seconds of the longest of the last steps of the next size at least as large as this one's.

        Where none was, those of the largest, as many times as this one is larger at most. None where nothing is known.
        """
        size = _size_of(plan)
        if not self._seconds:
            return None
        known = min((other for other in self._seconds if other >= size), default=max(self._seconds))
        return max(self._seconds[known]) * 2.0 ** max(0, size - known + (known < size))


def _size_of(plan: StepPlan) -> int:
    return (plan.num_tokens + plan.num_keys // _KEYS).bit_length()
