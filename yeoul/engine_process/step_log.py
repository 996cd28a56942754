"""StepLog: the last steps as they were handed out and came back, for reports and stories; EngineCoreProc keeps it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from yeoul.messages.outputs import StepFacts
from yeoul.messages.steps import StepInput, StepResult
from yeoul.recovery.recovery_report import NUM_LAST_STEPS, StepRecord


class StepLog:
    """Costs a step some microseconds: what is in it is only looked at when something has died."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._steps: deque[tuple[StepInput, float, float]] = deque(maxlen=NUM_LAST_STEPS)
        self._seconds: deque[tuple[int, float]] = deque(maxlen=NUM_LAST_STEPS)

    def note_step(self, step: StepInput, limit_seconds: float) -> None:
        """The workers got it."""
        self._steps.append((step, limit_seconds, self._clock()))

    def note_result(self, step: StepInput, result: StepResult, num_outputs: int) -> StepFacts:
        """It came back, and so many outputs are made of it: what is told of it."""
        self._seconds.append((result.step_number, result.compute_seconds))
        now = self._clock()
        started = next((time for one, _, time in reversed(self._steps) if one is step), now)
        num_tokens, prompts = 0, []
        for entry in step.scheduled:
            num_tokens += entry.num_new_tokens
            if entry.num_new_tokens > 1:
                prompts.append((entry.request_id, entry.num_new_tokens))
        return StepFacts(step.step_number, started, now - started, num_tokens, len(step.scheduled), num_outputs, prompts)

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
