"""The door: what the context has room for."""

from __future__ import annotations

import pytest

from tests.unit.web_process.fake_engine_client import settings
from yeoul.errors import ConfigError, InvalidRequestError, PromptTooLongError
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.engine.admission import Limits, check_token_ids, resolve_max_tokens
from yeoul.web_process.engine.served_model import find_served_model

LIMITS = Limits(max_model_len=100, vocab_size=512)


def test_max_tokens_is_cut_to_what_the_context_has_room_for():
    assert resolve_max_tokens(SamplingParams(), 90, LIMITS).max_tokens == 10
    assert resolve_max_tokens(SamplingParams(max_tokens=50), 90, LIMITS).max_tokens == 10
    assert resolve_max_tokens(SamplingParams(max_tokens=5), 90, LIMITS).max_tokens == 5
    with pytest.raises(InvalidRequestError, match="min_tokens is 20"):
        resolve_max_tokens(SamplingParams(min_tokens=20), 90, LIMITS)


@pytest.mark.parametrize("num_answer_tokens", [0, 1])
def test_a_prompt_may_fill_the_context_but_for_what_its_answer_needs(num_answer_tokens):
    limits = Limits(max_model_len=100, vocab_size=512, num_answer_tokens=num_answer_tokens)
    most = 100 - num_answer_tokens
    assert len(check_token_ids([1] * most, limits)) == most
    with pytest.raises(PromptTooLongError, match=f"at most {most} fit"):
        check_token_ids([1] * (most + 1), limits)


def test_a_context_longer_than_the_models_positions_is_refused_at_the_start():
    assert find_served_model(settings().model).limits.max_model_len == 256
    with pytest.raises(ConfigError, match="positions"):
        find_served_model(settings(max_model_len=10**6).model)
