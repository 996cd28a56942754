"""StepLog: the last steps as they were handed out and came back, for reports and stories; EngineCoreProc keeps it.

Another thread reads it for ``/topology``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from yeoul.messages.outputs import StepFacts
from yeoul.messages.steps import StepInput, StepResult
from yeoul.messages.topology import EngineNow
from yeoul.recovery.recovery_report import NUM_LAST_STEPS, StepRecord


class StepLog:
    """Costs a step some microseconds: what is in it is only looked at when something has died."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._steps: deque[tuple[StepInput, float, float]] = deque(maxlen=NUM_LAST_STEPS)
        self._seconds: deque[tuple[int, float]] = deque(maxlen=NUM_LAST_STEPS)
        self._num_out = 0  # the workers have them
        self._begun_at = self._returned_at = 0.0  # of the monotonic clock: the oldest of those, and the last before it

    def note_step(self, step: StepInput, limit_seconds: float) -> None:
        """The workers got it."""
        now = self._clock()
        self._steps.append((step, limit_seconds, now))
        if self._num_out == 0:
            self._begun_at = now
        self._num_out += 1

    def note_result(self, step: StepInput, result: StepResult, num_outputs: int) -> StepFacts:
        """It came back, and so many outputs are made of it: what is told of it."""
        self._seconds.append((result.step_number, result.compute_seconds))
        now = self._clock()
        self._num_out = max(0, self._num_out - 1)
        self._begun_at = self._returned_at = now
        started = next((time for one, _, time in reversed(self._steps) if one is step), now)
        num_tokens, prompts = 0, []
        for entry in step.scheduled:
            num_tokens += entry.num_new_tokens
            if entry.num_new_tokens > 1:
                prompts.append((entry.request_id, entry.num_new_tokens))
        return StepFacts(step.step_number, started, now - started, num_tokens, len(step.scheduled), num_outputs, prompts)

    def note_loss(self) -> None:
        """What the workers had will not come back."""
        self._num_out = 0

    def now(self) -> EngineNow:
        """The step that is computed, or was last; from any thread."""
        num_out, steps, seconds = self._num_out, list(self._steps), list(self._seconds)
        if not steps:
            return EngineNow()
        step, now = steps[-max(1, min(num_out, len(steps)))][0], self._clock()
        return EngineNow(
            step_number=step.step_number,
            step_num_requests=len(step.scheduled),
            step_num_tokens=sum(entry.num_new_tokens for entry in step.scheduled),
            is_computing=num_out > 0,
            step_seconds=now - self._begun_at if num_out > 0 else seconds[-1][1] if seconds else 0.0,
            last_progress_seconds=now - self._returned_at if seconds else None,
        )

    def records(self) -> list[StepRecord]:
        """The newest last."""
        seconds = dict(self._seconds)
        return [
            StepRecord(
                step_number=step.step_number,
                num_tokens={entry.request_id: entry.num_new_tokens for entry in step.scheduled},
                limit_seconds=round(limit_seconds, 3),
                seconds=seconds.get(step.step_number),
            )
            for step, limit_seconds, _ in self._steps
        ]
