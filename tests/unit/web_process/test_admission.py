"""The door: what the context has room for."""

from __future__ import annotations

import pytest

from tests.unit.web_process.fake_engine_client import settings
from yeoul.errors import ConfigError, InvalidRequestError
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.admission import Limits, resolve_max_tokens
from yeoul.web_process.served_model import find_served_model

LIMITS = Limits(max_model_len=100, vocab_size=512)


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
