"""Calls that have to be made, and arguments that have to fit their tool: what a grammar makes sure of, on real processes."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import openai
import pytest

from tests.processes.forced_calls import (
    NOW,
    TOOLS,
    WEATHER,
    answer_of,
    events_of,
    in_short,
    serve,
    streamed,
    whole,
    without_ids,
)
from tests.running_server import RunningServer


@pytest.fixture(scope="module")
def plain() -> Iterator[RunningServer]:
    """A model that does not think first: the fake one would think for ever."""
    with serve("--reasoning-parser", "none") as running:
        yield running


def fits(call: dict[str, Any]) -> bool:
    return call["name"] == "now" or bool(jsonschema_rs.is_valid(WEATHER, json.loads(call["arguments"])))


@pytest.mark.parametrize("seed", range(4))
def test_a_call_that_is_required_comes_and_fits(plain, seed):
    found = in_short(whole(plain, None, tool_choice="required", seed=seed, max_tokens=600))
    assert found["calls"]
    assert found["content"] is None
    if found["finish_reason"] == "tool_calls":
        assert all(fits(call) for call in found["calls"])
    again = streamed(plain, None, tool_choice="required", seed=seed, max_tokens=600)
    assert without_ids(again) == without_ids(found)


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "function": {"name": "weather"}},
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "weather"}}]},
        },
    ],
)
def test_the_tool_that_is_named_is_called(plain, choice):
    found = in_short(whole(plain, None, tool_choice=choice, seed=3, max_tokens=600))
    assert {call["name"] for call in found["calls"]} == {"weather"}
    if choice["type"] == "function":
        assert len(found["calls"]) == 1
        assert found["finish_reason"] == "tool_calls"
        assert fits(found["calls"][0])


def test_strict_arguments_fit_in_a_call_that_comes_by_itself(plain):
    strict = [{"type": "function", "function": TOOLS[0]["function"] | {"strict": True}}]
    begun = 'I look. <tool_call>\n{"name": "weather", "arguments": '
    body = {"forced_token_ids": list(begun.encode())}
    answer = answer_of(plain, tools=strict, extra_body=body, seed=1, max_tokens=400)
    (call, *_) = in_short(answer.choices[0])["calls"]
    assert fits(call)
    with pytest.raises(openai.BadRequestError, match="grammar"):
        answer_of(plain, tools=strict, extra_body={"forced_token_ids": list((begun + "5").encode())})


def test_tools_that_are_not_allowed_are_not_called(plain):
    choice: Any = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "name": "weather"}]},
    }
    assert whole(plain, "Fine.", tool_choice=choice).message.content == "Fine."
    with pytest.raises(openai.BadRequestError, match="grammar"):
        whole(plain, NOW, tool_choice=choice)


def test_whoever_gives_up_waiting_for_a_grammar_spoils_it_for_nobody(plain):
    crowd = [threading.Thread(target=busy, args=(plain, number)) for number in range(12)]
    for thread in crowd:
        thread.start()
    with contextlib.suppress(openai.APIStatusError):
        whole(plain, None, tool_choice="required", max_tokens=1, extra_body={"deadline_seconds": 0.002})
    for thread in crowd:
        thread.join()
    assert in_short(whole(plain, None, tool_choice="required", seed=1, max_tokens=900))["calls"]


def busy(server: RunningServer, number: int) -> None:
    """A grammar that takes a while to compile, and that nobody else has."""
    choices = [f"{number} {each}" for each in range(3000)]
    httpx.post(f"{server.url}/v1/completions", json={"prompt": "x", "guided_choice": choices, "max_tokens": 1}, timeout=60)


OPTIONAL = {
    "type": "object",
    "properties": {
        "a": {"type": "string"},
        "b": {"type": "boolean"},
        "c": {"$ref": "#/$defs/number"},
        "d": {"enum": ["x", "y"]},
    },
    "required": ["b"],
    "$defs": {"number": {"type": "integer", "minimum": 1, "maximum": 3}},
}


@pytest.mark.parametrize(
    ("family", "text", "arguments"),
    [
        (
            "qwen3_coder",
            "<tool_call>\n<function=f>\n<parameter=a>\none\n</parameter>\n<parameter=b>\ntrue\n</parameter>\n"
            "<parameter=d>\ny\n</parameter>\n</function>\n</tool_call>",
            {"a": "one", "b": True, "d": "y"},
        ),
        (
            "qwen3_coder",
            "<tool_call>\n<function=f>\n<parameter=b>\nfalse\n</parameter>\n<parameter=c>\n2\n</parameter>\n"
            "</function>\n</tool_call>",
            {"b": False, "c": 2},
        ),
        ("pythonic", "[f(b=True, c=3)]", {"b": True, "c": 3}),
        ("pythonic", '[f(a="one", b=False)]', {"a": "one", "b": False}),
        ("hermes", '<tool_call>\n{"name": "f", "arguments": {"b": true}}\n</tool_call>', {"b": True}),
    ],
)
def test_what_need_not_be_there_may_be_there_in_a_call_that_is_held(family, text, arguments):
    tools = [{"type": "function", "function": {"name": "f", "parameters": OPTIONAL}}]
    with serve("--tool-call-parser", family, "--reasoning-parser", "none") as server:
        found = in_short(whole(server, text, tools=tools, tool_choice="required"))
        assert [json.loads(call["arguments"]) for call in found["calls"]] == [arguments]


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("qwen3_coder", "<tool_call>\n<function=weather>\n<parameter=city>\nBonn\n</parameter>\n<parameter=days>\n3\n"
                        "</parameter>\n</function>\n</tool_call>"),
        ("llama3_json", '{"name": "weather", "parameters": {"city": "Bonn", "days": 3}}'),
        ("mistral", '[TOOL_CALLS]weather[ARGS]{"city": "Bonn", "days": 3}'),
        ("pythonic", '[weather(city="Bonn", days=3)]'),
        ("glm45", "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Bonn</arg_value>\n<arg_key>days</arg_key>\n"
                  "<arg_value>3</arg_value>\n</tool_call>"),
        ("gemma4", '<|tool_call>call:weather{city:<|"|>Bonn<|"|>,days:3}<tool_call|>'),
    ],
)  # fmt: skip
def test_other_families_are_read_and_enforced(family, text):
    with serve("--tool-call-parser", family, "--reasoning-parser", "none") as server:
        expected = [("weather", {"city": "Bonn", "days": 3})]
        found = in_short(whole(server, text))
        assert [(call["name"], json.loads(call["arguments"])) for call in found["calls"]] == expected
        assert without_ids(streamed(server, text)) == without_ids(found)
        named: Any = {"type": "function", "function": {"name": "weather"}}
        made = in_short(whole(server, None, tool_choice=named, seed=5, max_tokens=900))
        assert [call["name"] for call in made["calls"]] == ["weather"]
        if made["finish_reason"] == "tool_calls":
            arguments = json.loads(made["calls"][0]["arguments"])
            assert arguments.keys() == {"city", "days"}
            assert 1 <= arguments["days"] <= 9


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "tools"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": None}}}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tool_choice": "required", "response_format": {"type": "json_object"}}, "tool_choice"),
        (
            {
                "tool_choice": "required",
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"uniqueItems": True}}}],
            },
            "tools",
        ),
    ],
)
def test_what_cannot_be_called_is_refused(plain, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        whole(plain, None, **fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "parameters", [{"required": True}, {"required": [{}]}, {"properties": [1]}, {"properties": {"a b": {}}}]
)
def test_parameters_that_are_no_schema_are_the_requests_own_mistake(parameters):
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    with serve("--tool-call-parser", "pythonic", "--reasoning-parser", "none") as server:
        with pytest.raises(openai.BadRequestError) as caught:
            whole(server, None, tools=tools, tool_choice="required")
        assert caught.value.param == "tools"


ORDER: Any = {
    "type": "custom",
    "custom": {
        "name": "order",
        "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": r'"[a-c]{2,5}"\\|x\ny'}},
    },
}


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "custom", "custom": {"name": "order"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [ORDER]}},
    ],
)
def test_a_custom_tool_gets_a_text_that_follows_its_grammar(plain, choice):
    fields: dict[str, Any] = {"tools": [*TOOLS, ORDER], "tool_choice": choice, "seed": 5, "max_tokens": 300}
    message = answer_of(plain, **fields).choices[0].message
    call = message.tool_calls[0]
    assert (call.type, call.custom.name) == ("custom", "order")
    assert re.fullmatch(r'"[a-c]{2,5}"\\|x\ny', call.custom.input), call.custom.input

    deltas = [delta for chunk in events_of(plain, **fields) for delta in chunk.choices[0].delta.tool_calls or []]
    first = [delta for delta in deltas if delta.index == 0]
    assert (first[0].type, first[0].custom) == ("custom", {"name": "order", "input": ""})
    assert [delta.custom for delta in first[1:]] == [{"input": call.custom.input}]

    turn: Any = [{"role": "user", "content": "hi"}, message, {"role": "tool", "tool_call_id": call.id, "content": "done"}]
    assert answer_of(plain, messages=turn, tools=[ORDER], tool_choice="none", max_tokens=4).choices[0].message.content
