"""What each second has seen: counted when something happens, made up where nothing did."""

from __future__ import annotations

from typing import Any

import pytest

from yeoul.engines.token_gaps import TokenGaps
from yeoul.messages.outputs import StepFacts, StepOutputs, StepParts
from yeoul.messages.statistics import EngineStatistics
from yeoul.web_process.engine.request_observer import Requester
from yeoul.web_process.live.page.number_history import NUM_SECONDS, NumberHistory

WHO = Requester("r", "m", "")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gaps() -> TokenGaps:
    return TokenGaps()


@pytest.fixture
def history(gaps: TokenGaps, clock: Clock) -> NumberHistory:
    return NumberHistory(gaps, clock)


def step(seconds: float, **statistics: Any) -> StepOutputs:
    parts = StepParts(0.125, seconds / 2, 0.25, seconds, 0.5, 0.25, 0.125)
    facts = StepFacts(1, 1.0, seconds, 4, 2, 2, parts=parts)
    return StepOutputs(steps=[facts], statistics=EngineStatistics(**statistics))


def test_a_second_has_what_happened_in_it(history: NumberHistory, gaps: TokenGaps, clock: Clock):
    history.first_token(WHO, 0.25)
    history.first_token(WHO, 0.75)
    history.stepped(step(0.25, num_running=2, num_blocks=8, num_used_blocks=2, total_prompt_tokens=40, total_output_tokens=2))
    gaps.add(0.5, 1)
    gaps.add(0.1, 4)
    history.stepped(step(0.25, num_running=3, num_blocks=8, num_used_blocks=4, total_prompt_tokens=40, total_output_tokens=7))
    assert history.since(0) == []
    clock.now += 1
    (point,) = history.since(0)
    assert (point.num_running, point.kv_usage) == (3, 0.5)
    assert (point.num_prompt_tokens, point.num_output_tokens) == (40, 7)
    assert (point.num_steps, point.compute_seconds, point.sample_seconds) == (2, 0.5, 1.0)
    assert (point.schedule_seconds, point.send_seconds) == (0.5, 1.0)
    assert (point.ttft_p50, point.ttft_p99) == (0.75, 0.75)
    assert point.gap_p50 == pytest.approx(0.1, rel=0.05)
    assert point.gap_p99 == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("gap", [1e-6, 0.0, 3.3e-5, 0.0123, 1.0, 500.0, 1e6])
def test_a_time_from_token_to_token_is_known_within_a_twentieth(
    history: NumberHistory, gaps: TokenGaps, clock: Clock, gap: float
):
    gaps.add(gap, 3)
    clock.now += 1
    (point,) = history.since(0)
    assert point.gap_p50 == point.gap_p99 == pytest.approx(min(max(gap, 1e-5), 665.0), rel=0.05)


def test_what_was_told_is_not_told_again(history: NumberHistory, clock: Clock):
    clock.now += 2
    first, second = history.since(0)
    assert second.at == first.at + 1
    assert history.since(second.at) == []
    clock.now += 1
    (third,) = history.since(second.at)
    assert third.at == second.at + 1


def test_seconds_without_anything_keep_the_gauges_and_count_nothing(history: NumberHistory, clock: Clock):
    history.stepped(step(0.5, num_waiting=1, num_blocks=4, num_used_blocks=1, total_output_tokens=9))
    clock.now += 3
    points = history.since(0)
    assert [point.num_output_tokens for point in points] == [9, 0, 0]
    assert [point.num_waiting for point in points] == [1, 1, 1]
    assert [point.kv_usage for point in points] == [0.25] * 3
    assert points[1].ttft_p50 is None
    assert points[1].gap_p99 is None


def test_the_counters_of_another_engine_begin_anew(history: NumberHistory, clock: Clock):
    history.stepped(step(0.5, total_output_tokens=100))
    clock.now += 1
    history.stepped(step(0.5, total_output_tokens=3))
    clock.now += 1
    assert [point.num_output_tokens for point in history.since(0)] == [100, 3]


def test_it_remembers_a_quarter_of_an_hour(history: NumberHistory, clock: Clock):
    clock.now += 10**9
    points = history.since(0)
    assert len(points) == NUM_SECONDS
    assert points[-1].at - points[0].at == NUM_SECONDS - 1
