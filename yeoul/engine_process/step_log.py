"""StepLog: the last steps as they were handed out and came back, for a recovery report; EngineCoreProc keeps it."""

from __future__ import annotations

from collections import deque

from yeoul.messages.steps import StepInput, StepResult
from yeoul.recovery.recovery_report import NUM_LAST_STEPS, StepRecord


class StepLog:
    """Costs a step a microsecond: what is in it is only looked at when something has died."""

    def __init__(self) -> None:
        self._steps: deque[tuple[StepInput, float]] = deque(maxlen=NUM_LAST_STEPS)
        self._seconds: deque[tuple[int, float]] = deque(maxlen=NUM_LAST_STEPS)

    def note_step(self, step: StepInput, limit_seconds: float) -> None:
        """The workers got it."""
        self._steps.append((step, limit_seconds))

    def note_result(self, result: StepResult) -> None:
        """It came back."""
        self._seconds.append((result.step_number, result.compute_seconds))

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
            for step, limit_seconds in self._steps
        ]
