"""Numbers in quotes: which fields take them, however their types are written and whatever is said of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

import yeoul.web_process.app  # noqa: F401 - brings the bodies of all routes
from yeoul.errors import InvalidRequestError
from yeoul.web_process.anthropic.schemas.messages import MessagesRequest
from yeoul.web_process.http.request_body import RequestBody, numbers_of, parse_body
from yeoul.web_process.ollama.schemas.requests import ChatRequest as OllamaChatRequest
from yeoul.web_process.openai.schemas.chat import ChatRequest
from yeoul.web_process.openai.schemas.scores import RerankRequest
from yeoul.web_process.openai.schemas.texts import EmbeddingRequest
from yeoul.web_process.responses.schemas.response_request import ResponseRequest

Whole = Annotated[int, Meta(ge=1, description="A whole number.")]


class Described(RequestBody, kw_only=True):
    """Every way in which a type may have a sentence."""

    plain: int | None = None
    inside: Whole | None = None
    outside: Annotated[int | None, Meta(description="A number.")] = None
    twice: Annotated[Whole | None, Meta(description="A number.")] = None
    broken: Annotated[Whole | float, Meta(description="A number.")] = 1.0
    text: Annotated[str | None, Meta(description="A text.")] = None
    either: Annotated[int | str | None, Meta(description="A number, or a text.")] = None


def test_what_is_said_of_a_number_does_not_hide_it():
    assert numbers_of(Described) == {"plain": True, "inside": True, "outside": True, "twice": True, "broken": False}
    body = {"plain": "1", "inside": "2", "outside": "3", "twice": 4.0, "broken": "0.5", "text": "6", "either": "7"}
    read = parse_body(json.dumps(body).encode(), Described)
    assert read == Described(plain=1, inside=2, outside=3, twice=4, broken=0.5, text="6", either="7")
    with pytest.raises(InvalidRequestError, match="inside is 0; expected at least 1"):
        parse_body(b'{"inside": "0"}', Described)


def kinds_of(schema: dict[str, Any]) -> set[str]:
    """The types that a field's schema lets through, but for null."""
    if "anyOf" in schema:
        return set().union(*map(kinds_of, schema["anyOf"]))
    return {schema.get("type", "anything")} - {"null"}


def bodies(model: type[RequestBody] = RequestBody) -> Iterator[type[RequestBody]]:
    for body in model.__subclasses__():
        if body.__module__.startswith("yeoul."):
            yield body
            yield from bodies(body)


@pytest.mark.parametrize("model", sorted(set(bodies()), key=repr), ids=lambda model: f"{model.__module__}.{model.__name__}")
def test_every_field_whose_schema_has_numbers_only_takes_quotes(model):
    (schema,), parts = msgspec.json.schema_components([model])
    properties = parts[schema["$ref"].rpartition("/")[2]]["properties"]
    numbers = {name: kinds for name, field in properties.items() if (kinds := kinds_of(field)) <= {"integer", "number"}}
    assert numbers_of(model) == {name: kinds == {"integer"} for name, kinds in numbers.items()}


@pytest.mark.parametrize(
    ("model", "rest", "numbers"),
    [
        (
            ChatRequest,
            {"messages": [{"role": "user", "content": "hi"}], "logprobs": True},
            {
                "temperature": 0.5, "top_p": 0.5, "presence_penalty": -1, "frequency_penalty": 1, "seed": 7, "top_k": 2,
                "min_p": 0, "repetition_penalty": 1.5, "min_tokens": 1, "n": 2, "max_tokens": 5, "prompt_logprobs": 1,
                "top_logprobs": 2, "truncate_prompt_tokens": -1, "max_completion_tokens": 5, "thinking_token_budget": 3,
                "deadline_seconds": 2.5, "priority": -1,
            },
        ),
        (EmbeddingRequest, {"input": "hi"}, {"dimensions": 8, "truncate_prompt_tokens": 3, "deadline_seconds": 1}),
        (RerankRequest, {"query": "a", "documents": ["b"]}, {"top_n": 1, "max_tokens_per_doc": 9}),
        (ResponseRequest, {"input": "hi"}, {"max_output_tokens": 5, "top_logprobs": 2, "max_tool_calls": 1, "seed": 7}),
        (
            MessagesRequest,
            {"messages": [{"role": "user", "content": "hi"}]},
            {"max_tokens": 5, "temperature": 0.5, "top_p": 0.5, "top_k": 2, "min_p": 0.1, "seed": 7, "deadline_seconds": 2.5},
        ),
        (OllamaChatRequest, {"model": "m", "logprobs": True}, {"top_logprobs": 2, "deadline_seconds": 2.5, "priority": 3}),
    ],
)  # fmt: skip
def test_a_number_in_quotes_is_the_number(model, rest, numbers):
    plain = parse_body(json.dumps(rest | numbers).encode(), model)
    assert parse_body(json.dumps(rest | {name: str(value) for name, value in numbers.items()}).encode(), model) == plain
    assert {name: getattr(plain, name) for name in numbers} == numbers
