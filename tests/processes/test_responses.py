"""The Responses API as OpenAI's own client sees it, to the last event: the tokens are forced, all else is real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pydantic
import pytest
from openai.types.responses import Response, ResponseStreamEvent

from tests.processes.forced_calls import CALL, TEMPLATE, WEATHER, forced
from tests.running_server import RunningServer

TOOLS: Any = [
    {"type": "function", "name": "weather", "description": "tells it", "parameters": WEATHER, "strict": False},
    {"type": "custom", "name": "patch"},
    {
        "type": "namespace",
        "name": "clock",
        "description": "of time",
        "tools": [{"type": "function", "name": "now", "parameters": {"type": "object", "properties": {}}}],
    },
    {"type": "web_search", "external_web_access": True},
]
PATCH = '<tool_call>\n{"name": "patch", "arguments": {"input": "aaa"}}\n</tool_call>'
CALL_OF_PATCH = '<tool_call>\n{"name": "patch", "arguments": {"input": TEXT}}\n</tool_call>'
NOW = '<tool_call>\n{"name": "clock__now", "arguments": {}}\n</tool_call>'


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    flags = ("--allow-forced-tokens", "--chat-template", TEMPLATE, "--max-model-len", "4096", "--fake-step-seconds", "0.001")
    with RunningServer(*flags, "--reasoning-parser", "qwen3") as running:
        yield running


@contextlib.contextmanager
def client_of(server: RunningServer) -> Iterator[Any]:
    """A client; what is sent is as untyped as what people send."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60.0) as client:
        yield client


def test_a_whole_answer_and_a_streamed_one_have_the_same_items(server):
    text = f"<think>\nThe river, hm.\n</think>\n\nI look.\n{CALL}\n{PATCH}\n{NOW}"
    fields: dict[str, Any] = {"model": "fake", "input": "hi", "tools": TOOLS, "extra_body": forced(text)}
    with client_of(server) as client:
        whole = client.responses.create(**fields)
        with client.responses.stream(**fields) as stream:
            kinds = [event.type for event in stream]
            streamed = stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    for response in (whole, streamed):
        assert response.status == "completed"
        assert response.output_text == "I look."
        thought, _, weather, patch, now = response.output
        assert thought.content[0].text.strip() == "The river, hm."
        assert json.loads(weather.arguments)["days"] == 3
        assert (patch.type, patch.input) == ("custom_tool_call", "aaa")
        assert (now.name, now.namespace) == ("now", "clock")
        assert response.usage.output_tokens_details.reasoning_tokens > 0


@pytest.mark.parametrize("text", [f"<think>hm</think>I look.{CALL}{PATCH}{NOW}", "Fine.", "<think>on and on", CALL[:60]])
def test_every_event_and_every_answer_is_of_openais_own_types(server, text):
    """Checked strictly: the client itself takes whatever comes."""
    body = {"model": "fake", "input": "hi", "tools": TOOLS, "top_logprobs": 2, "metadata": {"a": "b"}, **forced(text)}
    with httpx.stream("POST", f"{server.url}/v1/responses", json={**body, "stream": True}, timeout=60.0) as answer:
        data = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    event_type = pydantic.TypeAdapter[Any](ResponseStreamEvent)
    for number, event in enumerate(data):
        read = event_type.validate_python(event)
        assert read.type == event["type"]
        assert read.sequence_number == number
    whole = httpx.post(f"{server.url}/v1/responses", json=body, timeout=60.0).json()
    assert [item["type"] for item in whole["output"]] == [item["type"] for item in data[-1]["response"]["output"]]
    Response.model_validate(whole)


def test_log_probabilities_are_those_of_the_text_whichever_way_it_comes(server):
    fields: Any = {
        "model": "fake", "input": "hi", "top_logprobs": 1, "extra_body": forced(f"<think>\nhm\n</think>\n\nFine.\n{CALL}"),
        "tools": TOOLS,
    }  # fmt: skip
    with client_of(server) as client:
        with client.responses.stream(**fields) as stream:
            streamed = stream.get_final_response()
        queued = client.responses.create(**fields, background=True)
        *_, last = client.responses.retrieve(queued.id, stream=True)
        for response in (client.responses.create(**fields), streamed, last.response):
            part = response.output[1].content[0]
            assert part.text == "Fine."
            assert "".join(entry.token for entry in part.logprobs) == "Fine."


def test_what_was_answered_can_be_sent_back(server):
    with client_of(server) as client:
        first = client.responses.create(
            model="fake", input="hi", tools=TOOLS, extra_body=forced(f"<think>hm</think>{CALL}{PATCH}{NOW}")
        )
        outputs = [
            {"type": "custom_tool_call_output" if item.type == "custom_tool_call" else "function_call_output"}
            | {"call_id": item.call_id, "output": "fine"}
            for item in first.output
            if item.type != "reasoning"
        ]
        items = [{"role": "user", "content": "hi"}, *[item.model_dump() for item in first.output], *outputs]
        second = client.responses.create(model="fake", input=items, tools=TOOLS, extra_body=forced("Good."))
    assert second.output_text == "Good."
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens


class Weather(pydantic.BaseModel):
    city: str
    days: int


def test_parsed_texts_and_parsed_calls(server):
    tool = openai.pydantic_function_tool(Weather, name="weather")["function"]
    with client_of(server) as client:
        parsed = client.responses.parse(
            model="fake", input="hi", text_format=Weather, extra_body=forced('{"city":"Bonn","days":3}')
        )
        called = client.responses.parse(
            model="fake",
            input="hi",
            tools=[{"type": "function", **tool}],
            tool_choice={"type": "function", "name": "weather"},
            extra_body=forced('<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn", "days": 3}}\n</tool_call>'),
        )
    assert parsed.output_parsed == Weather(city="Bonn", days=3)
    assert called.output[0].parsed_arguments == {"city": "Bonn", "days": 3}


@pytest.mark.parametrize(
    "choice", ["required", {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}]
)
def test_required_calls_are_made_by_a_model_that_knows_nothing(server, choice):
    tools = [{"type": "function", "name": "weather", "parameters": WEATHER}, {"type": "custom", "name": "patch"}]
    with client_of(server) as client:
        for seed in range(3):
            answer = client.responses.create(
                model="fake", input="hi", tools=tools, tool_choice=choice, parallel_tool_calls=False, max_output_tokens=600,
                extra_body={"seed": seed, "forced_token_ids": [*b"<think></think>"]},
            )  # fmt: skip
            assert next(item.type for item in answer.output if item.type != "reasoning") in (
                "function_call",
                "custom_tool_call",
            )


def test_an_asynchronous_client_and_a_raw_stream(server):
    async def scene() -> None:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            async with client.responses.stream(model="fake", input="hi", extra_body=forced("Fine.")) as stream:
                texts = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            assert "".join(texts) == "Fine."
            raw = client.responses.with_streaming_response.create(
                model="fake", input="hi", stream=True, extra_body=forced("Fine.")
            )
            async with raw as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                lines = [line async for line in answer.iter_lines()]
            assert lines[0] == "event: response.created"
            assert sum(line.startswith("event: ") for line in lines) == json.loads(lines[-2][6:])["sequence_number"] + 1

    asyncio.run(scene())


def test_a_client_that_leaves_its_stream_frees_the_engine(server):
    with client_of(server) as client:
        stream = client.responses.create(model="fake", input="hi", stream=True, extra_body=forced("x" * 3000))
        next(iter(stream))
        stream.close()
        answer = client.responses.create(model="fake", input="hi", extra_body=forced("Fine."))
    assert answer.output_text == "Fine."


PATCH_GRAMMAR = (
    'start: "*** Begin Patch\\n" line+ "*** End Patch"\nline: ("+" | "-") /[a-z" \\\\\\t]{1,9}/ LF\n%import common.LF'
)


def texts(form: dict[str, Any]) -> Any:
    return [{"type": "custom", "name": "patch", "format": {"type": "grammar", **form}}, *TOOLS[:1]]


@pytest.mark.parametrize("choice", ["required", {"type": "custom", "name": "patch"}])
@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ({"syntax": "lark", "definition": PATCH_GRAMMAR}, r'\*{3} Begin Patch\n(?:[+-][a-z" \\\t]{1,9}\n)+\*{3} End Patch'),
        ({"syntax": "regex", "definition": r'"[a-c]{2,5}"\\|x\ny'}, r'"[a-c]{2,5}"\\|x\ny'),
    ],
)
def test_the_text_of_a_custom_call_follows_its_grammar(server, form, pattern, choice):
    with client_of(server) as client:
        for seed in range(2):
            answer = client.responses.create(
                model="fake",
                input="hi",
                tools=texts(form),
                tool_choice=choice,
                extra_body={"seed": seed},
                max_output_tokens=300,
            )
            for call in answer.output:
                if call.type == "custom_tool_call" and call.status == "completed":
                    assert re.fullmatch(pattern, call.input), call.input


def test_a_custom_call_that_the_model_begins_has_to_follow_its_grammar(server):
    tools = texts({"syntax": "lark", "definition": PATCH_GRAMMAR})
    good = CALL_OF_PATCH.replace("TEXT", json.dumps('*** Begin Patch\n+a "b"\n*** End Patch'))
    with client_of(server) as client:
        fields: dict[str, Any] = {"model": "fake", "input": "hi", "tools": tools}
        answer = client.responses.create(**fields, extra_body=forced(f"<think>hm</think>I do <it>.\n{good}\n{CALL}"))
        _, message, patch, weather = answer.output
        assert (message.type, patch.input.splitlines()[1], weather.name) == ("message", '+a "b"', "weather")
        with pytest.raises(openai.APIError, match="grammar"):
            client.responses.create(
                **fields, extra_body=forced(f"<think>hm</think>{CALL_OF_PATCH.replace('TEXT', json.dumps('aaa'))}")
            )
        free: Any = [{"type": "custom", "name": "patch"}]
        answer = client.responses.create(model="fake", input="hi", tools=free, extra_body=forced(f"<think>hm</think>{PATCH}"))
        assert answer.output[-1].input == "aaa"


def test_where_no_grammar_can_be_followed_it_is_said(server):
    recursive = {"syntax": "lark", "definition": 'start: part\npart: /./ | "(" part ")"'}
    body = {"model": "fake", "input": "hi", "tools": texts(recursive), **forced("<think>hm</think>Fine.")}
    answer = httpx.post(f"{server.url}/v1/responses", json=body, timeout=60.0)
    assert answer.status_code == 200, answer.text
    assert answer.headers["yeoul-ignored-fields"] == "tools.format"
    assert answer.json()["tools"][0]["format"] == {"type": "grammar", **recursive}
    refused = httpx.post(f"{server.url}/v1/responses", json={**body, "tool_choice": "required"}, timeout=60.0)
    assert refused.status_code == 400
    assert "lead back to themselves" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"syntax": "lark", "definition": 'start: "a"\nstart2: ) "b"'}, r"tools\.format\.definition.*2"),
        ({"syntax": "lark", "definition": "start: nothing"}, "nothing"),
        ({"syntax": "regex", "definition": "a)|(b"}, "tools.format.definition"),
        ({"syntax": "regex", "definition": "(?=a)b"}, "tools.format.definition"),
        ({"syntax": "ebnf", "definition": "x"}, "syntax"),
        ({"syntax": "lark"}, "definition"),
        ({"definition": "x"}, "syntax"),
        ({"syntax": "lark", "definition": ""}, "definition"),
        ({"syntax": "lark", "definition": 7}, "definition"),
        ({"syntax": "lark", "definition": "start: " + "x" * 300_000}, "tools.format.definition"),
    ],
)
def test_a_grammar_that_is_none_is_refused_with_its_place(server, form, words):
    with client_of(server) as client, pytest.raises(openai.BadRequestError, match=words):
        client.responses.create(model="fake", input="hi", tools=texts(form), max_output_tokens=50)
