"""What a step's time went to: parts that follow each other, and add up to it, whatever a worker says of its clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.engine_process.step_log import StepLog
from yeoul.messages.outputs import StepFacts, StepParts
from yeoul.messages.questions import SpansQuestion
from yeoul.messages.steps import StepInput, StepResult
from yeoul.spans import SPANS


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def hand_out(log: StepLog, clock: Clock, number: int, planned_since: float, at: float) -> StepInput:
    step = StepInput(step_number=number)
    clock.now = at
    log.note_step(step, 1.0, planned_since)
    return step


def take_back(log: StepLog, clock: Clock, step: StepInput, result: StepResult, returned_at: float, at: float) -> StepFacts:
    clock.now = at
    return log.note_result(step, result, 0, returned_at)


def test_a_step_that_was_handed_out_ahead_waits_behind_the_one_before():
    clock = Clock()
    log = StepLog(clock)
    first = hand_out(log, clock, 0, 9.0, 10.0)
    second = hand_out(log, clock, 1, 10.5, 11.0)
    facts = take_back(log, clock, first, StepResult(0, [], 5.0, 0, 10.25, 1.0), 16.0, 16.5)
    assert facts.parts == StepParts(1.0, 0.0, 0.25, 4.0, 1.0, 0.75, 0.5)
    assert facts.seconds == 6.5
    facts = take_back(log, clock, second, StepResult(1, [], 5.0, 0, 15.5, 1.5), 21.0, 21.25)
    assert facts.parts == StepParts(0.5, 4.25, 0.25, 3.5, 1.5, 0.5, 0.25)
    now = log.now()
    assert (now.schedule_seconds, now.compute_seconds, now.sample_seconds, now.send_seconds) == (0.75, 3.5, 1.5, 0.75)


def test_a_step_of_a_pipeline_waits_for_the_first_stage_only():
    clock = Clock()
    log = StepLog(clock)
    first = hand_out(log, clock, 0, 10.0, 10.0)
    second = hand_out(log, clock, 1, 11.0, 11.0)
    facts = take_back(log, clock, first, StepResult(0, [], 5.0, 0, 10.0, 0.0, stage_seconds=[2.0, 3.0]), 16.0, 16.0)
    assert facts.parts == StepParts(0.0, 0.0, 0.0, 5.0, 0.0, 1.0, 0.0)
    facts = take_back(log, clock, second, StepResult(1, [], 5.0, 0, 12.0, 0.0, stage_seconds=[2.0, 3.0]), 18.0, 18.0)
    assert facts.parts == StepParts(0.0, 1.0, 0.0, 5.0, 0.0, 1.0, 0.0)


TIMES = st.floats(0, 100)


@given(st.lists(st.tuples(TIMES, TIMES, TIMES, TIMES, TIMES), min_size=1, max_size=4))
def test_parts_add_up_and_none_is_negative_whatever_a_worker_says(steps: list[tuple[float, ...]]):
    clock = Clock()
    log = StepLog(clock)
    for number, (began, compute, sample, way, booking) in enumerate(steps):
        step = hand_out(log, clock, number, clock.now, clock.now + 1.0)
        returned_at = clock.now + way
        result = StepResult(number, [], compute, 0, began, sample)
        facts = take_back(log, clock, step, result, returned_at, returned_at + booking)
        parts = [getattr(facts.parts, name) for name in StepParts.__struct_fields__]
        assert min(parts) >= 0
        assert sum(parts[1:]) == pytest.approx(facts.seconds)


def test_what_the_busy_loop_does_is_noted_while_somebody_records():
    clock = Clock()
    log = StepLog(clock)
    SPANS.answer(SpansQuestion("EngineCore", 3, 60.0))
    try:
        step = hand_out(log, clock, 0, 9.0, 10.0)
        clock.now = 10.5
        log.note_sent(step)
        take_back(log, clock, step, StepResult(0, [], 5.0, 0, 10.75, 1.0), 16.0, 16.5)
    finally:
        answer = SPANS.answer(SpansQuestion("EngineCore", 3, 0.0))
    assert [(span.name, span.began, span.ended, span.step) for span in answer.spans] == [
        ("schedule", 9.0, 10.0, 0), ("send step", 10.0, 10.5, 0), ("wait", 10.5, 16.0, 0), ("apply", 16.0, 16.5, 0),
    ]  # fmt: skip
    step = hand_out(log, clock, 1, 17.0, 18.0)
    log.note_sent(step)
    assert SPANS.answer(SpansQuestion("EngineCore", 4, 60.0)).spans == []
    SPANS.answer(SpansQuestion("EngineCore", 4, 0.0))
