"""StepLog: the last steps as they were handed out and came back, for reports and stories; EngineCoreProc keeps it.

Another thread reads it for ``/topology``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from yeoul.messages.outputs import StepFacts, StepParts
from yeoul.messages.steps import StepInput, StepResult
from yeoul.messages.topology import EngineNow
from yeoul.recovery.recovery_report import NUM_LAST_STEPS, StepRecord
from yeoul.spans import SPANS


class _HandedOut(NamedTuple):
    step: StepInput
    limit_seconds: float
    schedule_seconds: float
    at: float


class StepLog:
    """Costs a step some microseconds. Its times are EngineCore's; the workers run on the same host, by the same clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._steps: deque[_HandedOut] = deque(maxlen=NUM_LAST_STEPS)
        self._seconds: deque[tuple[int, float]] = deque(maxlen=NUM_LAST_STEPS)
        self._out: deque[_HandedOut] = deque()  # the workers have them
        self._begun_at = self._returned_at = 0.0  # of the monotonic clock: the oldest of those, and the last before it
        self._done_at = 0.0  # when the workers were done with that one, or the first stage was
        self._parts = StepParts()  # of it
        self._spans = SPANS.row("run_busy_loop")
        self._noted_until = 0.0

    def note_step(self, step: StepInput, limit_seconds: float, planned_since: float) -> None:
        """The workers get it; it was begun to be planned at ``planned_since``."""
        now = self._clock()
        out = _HandedOut(step, limit_seconds, now - planned_since, now)
        self._steps.append(out)
        if not self._out:
            self._begun_at = now
        self._out.append(out)
        if self._spans.is_on:
            self._note_span("schedule", planned_since, now, step)

    def note_sent(self, step: StepInput) -> None:
        """The workers have got it."""
        if self._spans.is_on:
            self._note_span("send step", self._steps[-1].at, self._clock(), step)

    def note_result(self, step: StepInput, result: StepResult, num_outputs: int, returned_at: float) -> StepFacts:
        """It came back at ``returned_at``, and so many outputs are made of it by now: what is told of it."""
        self._seconds.append((result.step_number, result.compute_seconds))
        now = self._clock()
        self._begun_at = self._returned_at = now
        out = self._out.popleft()
        self._parts = self._divide(out, result, returned_at, now)
        num_tokens, prompts = 0, []
        for entry in step.scheduled:
            num_tokens += entry.num_new_tokens
            if entry.num_new_tokens > 1:
                prompts.append((entry.request_id, entry.num_new_tokens))
        num_requests, parts = len(step.scheduled), self._parts
        if self._spans.is_on:
            self._note_span("wait", min(returned_at, max(self._noted_until, out.at)), returned_at, step)
            self._note_span("apply", returned_at, now, step)
        return StepFacts(step.step_number, out.at, now - out.at, num_tokens, num_requests, num_outputs, prompts, parts)

    def _note_span(self, name: str, began: float, ended: float, step: StepInput) -> None:
        num_tokens = sum(entry.num_new_tokens for entry in step.scheduled)
        self._spans.note(name, began, ended, step.step_number, len(step.scheduled), num_tokens)
        self._noted_until = ended

    def _divide(self, out: _HandedOut, result: StepResult, returned_at: float, now: float) -> StepParts:
        """A worker's times, whatever it says, lie between the step's way out and its way back."""
        free_at = min(returned_at, max(out.at, self._done_at))
        began_at = min(returned_at, max(free_at, result.began))
        done_at = min(returned_at, began_at + result.compute_seconds)
        self._done_at = done_at
        if result.stage_seconds:  # the next step waits for the first stage only
            self._done_at = min(returned_at, began_at + result.stage_seconds[0])
        sample = min(done_at - began_at, result.sample_seconds)
        compute = done_at - began_at - sample
        behind, reached, back = free_at - out.at, began_at - free_at, returned_at - done_at
        return StepParts(out.schedule_seconds, behind, reached, compute, sample, back, now - returned_at)

    def note_loss(self) -> None:
        """What the workers had will not come back."""
        self._out.clear()

    def now(self) -> EngineNow:
        """The step that is computed, or was last; from any thread."""
        handed_out, steps, seconds = list(self._out), list(self._steps), list(self._seconds)
        if not steps:
            return EngineNow()
        step, now, parts = (handed_out or steps[-1:])[0].step, self._clock(), self._parts
        return EngineNow(
            step_number=step.step_number,
            step_num_requests=len(step.scheduled),
            step_num_tokens=sum(entry.num_new_tokens for entry in step.scheduled),
            is_computing=bool(handed_out),
            step_seconds=now - self._begun_at if handed_out else seconds[-1][1] if seconds else 0.0,
            schedule_seconds=parts.schedule + parts.update,
            compute_seconds=parts.compute,
            sample_seconds=parts.sample,
            send_seconds=parts.out + parts.back,
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
            for step, limit_seconds, _, _ in self._steps
        ]
