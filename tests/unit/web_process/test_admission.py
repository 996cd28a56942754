"""The door: limits, and the guess when a full queue has room again."""

from __future__ import annotations

import pytest

from tests.unit.web_process.fake_engine_client import settings
from yeoul.errors import ConfigError, InvalidRequestError, TooManyRequestsError
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.statistics import EngineStatistics
from yeoul.web_process.admission import Limits, WaitingRoom, resolve_max_tokens
from yeoul.web_process.served_model import find_served_model

LIMITS = Limits(max_model_len=100, vocab_size=512)
IDLE = EngineStatistics()


def test_max_tokens_is_cut_to_what_the_context_has_room_for():
    assert resolve_max_tokens(SamplingParams(), 90, LIMITS).max_tokens == 10
    assert resolve_max_tokens(SamplingParams(max_tokens=50), 90, LIMITS).max_tokens == 10
    assert resolve_max_tokens(SamplingParams(max_tokens=5), 90, LIMITS).max_tokens == 5
    with pytest.raises(InvalidRequestError, match="min_tokens is 20"):
        resolve_max_tokens(SamplingParams(min_tokens=20), 90, LIMITS)


def test_a_context_longer_than_the_models_positions_is_refused_at_the_start():
    assert find_served_model(settings().model).limits.max_model_len == 256
    with pytest.raises(ConfigError, match="positions"):
        find_served_model(settings(max_model_len=10**6).model)


def test_only_waiting_requests_count_against_the_queue():
    room = WaitingRoom(4)
    room.check(4, 0, IDLE)
    room.check(1, 10, EngineStatistics(num_running=8))
    room.check(1, 3, EngineStatistics(num_running=8))
    with pytest.raises(TooManyRequestsError):
        room.check(1, 10, EngineStatistics(num_running=6))
    with pytest.raises(TooManyRequestsError):
        room.check(2, 3, IDLE)


def test_more_answers_than_can_ever_wait_are_the_requests_own_fault():
    with pytest.raises(InvalidRequestError, match="at most 4"):
        WaitingRoom(4).check(5, 0, IDLE)


def test_retry_after_follows_how_fast_requests_end():
    def guess(seconds_a_request: float) -> int:
        room = WaitingRoom(4)
        for number in range(20):
            room.note_finished(1, number * seconds_a_request, is_busy=True)
        with pytest.raises(TooManyRequestsError) as caught:
            room.check(2, 4, IDLE)
        return caught.value.retry_after_seconds

    assert guess(0.01) == 1
    assert guess(2.9) == 6
    assert guess(1000.0) == 60


def test_idle_time_does_not_make_requests_look_slow():
    room = WaitingRoom(4)
    room.note_finished(1, 0.0, is_busy=True)
    room.note_finished(1, 0.5, is_busy=False)
    room.note_finished(1, 5000.0, is_busy=True)
    with pytest.raises(TooManyRequestsError) as caught:
        room.check(2, 4, IDLE)
    assert caught.value.retry_after_seconds == 1
