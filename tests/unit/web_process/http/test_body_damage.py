"""Bodies of anything: each is a request that may cross to the engine, or a UserError that says why not."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_bytes import damaged
from yeoul.errors import UserError
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.text.chat_template import ChatTemplate
from yeoul.web_process.engine.admission import Limits, check_sampling, check_token_ids
from yeoul.web_process.http.request_body import RequestBody, parse_body
from yeoul.web_process.openai.schemas.chat import ChatRequest
from yeoul.web_process.openai.schemas.completions import CompletionRequest
from yeoul.web_process.openai.schemas.texts import DetokenizeRequest, EmbeddingRequest, TokenizeRequest

LIMITS = Limits(max_model_len=256, vocab_size=512)
TEMPLATE = ChatTemplate(
    "{% for message in messages %}{{ message.role }}: {{ message.content }}{{ message.tool_calls }}{% endfor %}"
)
SETTINGS = settings(max_examples=80, deadline=3000)

SAMPLING = {
    "model": "fake", "n": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "logit_bias": {"5": 1.5}, "seed": 7, "stop": ["x"],
    "max_tokens": 4, "stream": True, "stream_options": {"include_usage": True}, "stop_token_ids": [3], "priority": -1,
}  # fmt: skip
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    {"role": "assistant", "tool_calls": [CALL]},
]
SAMPLES: dict[type[RequestBody], dict[str, Any]] = {
    CompletionRequest: SAMPLING | {"prompt": ["hi", "ho"], "echo": True, "logprobs": 2},
    ChatRequest: SAMPLING | {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2},
    EmbeddingRequest: {"input": [[1, 2], [3]], "encoding_format": "float", "dimensions": 4, "priority": 1},
    TokenizeRequest: {"messages": MESSAGES, "return_token_strs": True},
    DetokenizeRequest: {"tokens": [1, 2, 3]},
}


def take(raw: bytes, model: type[RequestBody]) -> None:
    """What a route does with a body before the engine hears of it."""
    with contextlib.suppress(UserError):
        body = parse_body(raw, model)
        if isinstance(body, CompletionRequest | ChatRequest):
            sampling = check_sampling(body.to_sampling(SamplingDefaults()), LIMITS)
            assert msgspec.msgpack.decode(msgspec.msgpack.encode(sampling), type=type(sampling)) == sampling
        if isinstance(body, CompletionRequest):
            for prompt in body.prompt:
                if not isinstance(prompt, str):
                    check_token_ids(prompt, LIMITS)
        if isinstance(body, ChatRequest | TokenizeRequest) and body.messages is not None:
            assert TEMPLATE.render([message.for_template() for message in body.messages]).encode()
        if isinstance(body, DetokenizeRequest):
            check_token_ids(body.tokens, LIMITS)


@pytest.mark.parametrize("model", SAMPLES)
@given(data=st.data())
@SETTINGS
def test_damaged_bodies_are_refused_or_taken(model, data):
    take(data.draw(damaged([msgspec.json.encode(SAMPLES[model])])), model)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.sampled_from([-1, 0, 1, 1 << 31, (1 << 63) - 1, 1 << 63, -(1 << 63), (1 << 64) - 1, 1e308, 5e-324, -0.0]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)
keys = st.one_of(st.sampled_from(["type", "text", "role", "content", "5", "-1"]), st.text(max_size=3))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=5,
)


@pytest.mark.parametrize("model", SAMPLES)
@given(data=st.data())
@SETTINGS
def test_bodies_of_any_values_are_refused_or_taken(model, data):
    names = st.sampled_from(sorted(model.__struct_fields__))
    changes = data.draw(st.dictionaries(names, values, max_size=3))
    take(msgspec.json.encode(SAMPLES[model] | changes), model)


@pytest.mark.parametrize("arguments", ["[" * 100_000, "9" * 10_000, "NaN", '{"a": ' * 5000, "\\ud800", "{}{}"])
def test_arguments_of_a_tool_call_are_text_and_may_be_anything(arguments):
    call = {"function": {"name": "f", "arguments": arguments}}
    body = {"messages": [{"role": "assistant", "tool_calls": [call]}, {"role": "user", "content": "x"}]}
    chat = parse_body(msgspec.json.encode(body), ChatRequest)
    assert "f" in TEMPLATE.render([message.for_template() for message in chat.messages])
