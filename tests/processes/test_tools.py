"""Tools and reasoning as OpenAI's own client sees them, to the last event: the tokens are forced, all else is real."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import openai
import pytest

from tests.processes.forced_calls import (
    ASK,
    CALL,
    NOW,
    TOOLS,
    WEATHER,
    answer_of,
    events_of,
    forced,
    in_short,
    serve,
    streamed,
    whole,
    without_ids,
)
from tests.running_server import RunningServer


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serve("--reasoning-parser", "qwen3") as running:
        yield running


CASES = {
    "text alone": ("The weather is fine.", "The weather is fine.", None, [], "stop"),
    "one call": (CALL, None, None, [("weather", {"city": 'Süß "Fluß"', "days": 3})], "tool_calls"),
    "text and two calls": (
        f"Let me see.\n{CALL}\n{NOW}",
        "Let me see.",
        None,
        [("weather", {"city": 'Süß "Fluß"', "days": 3}), ("now", {})],
        "tool_calls",
    ),
    "reasoning, text and a call": (
        f"<think>\nThe river, hm.\n</think>\n\nI look.\n{NOW}",
        "I look.",
        "The river, hm.",
        [("now", {})],
        "tool_calls",
    ),
    "reasoning alone": ("<think>hm</think>Fine.", "Fine.", "hm", [], "stop"),
    "what only looks like a call": ("a <tool_call> of duty", "a <tool_call> of duty", None, [], "stop"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_answer_comes_apart_the_same_whole_and_streamed(server, name):
    text, content, reasoning, calls, reason = CASES[name]
    found = in_short(whole(server, text))
    assert found["content"] == content
    assert (found["reasoning"] or "").strip() == (reasoning or "")
    assert [(call["name"], json.loads(call["arguments"])) for call in found["calls"]] == calls
    assert found["finish_reason"] == reason
    assert len({call["id"] for call in found["calls"]}) == len(calls)
    assert without_ids(streamed(server, text)) == without_ids(found)


def test_reasoning_is_counted_and_has_both_of_its_names(server):
    answer = answer_of(server, extra_body=forced("<think>four</think>Fine."))
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 4
    message = answer.choices[0].message.model_dump()
    assert message["reasoning"] == message["reasoning_content"] == "four"


def test_an_answer_that_the_template_opens_inside_reasoning(server):
    body = {"chat_template_kwargs": {"enable_thinking": True}} | forced("hm</think>Fine.")
    answer = answer_of(server, extra_body=body).choices[0]
    assert answer.message.content == "Fine."
    assert answer.message.model_dump()["reasoning"] == "hm"


def test_a_call_that_is_cut_off_says_so(server):
    found = in_short(whole(server, CALL, max_tokens=60))
    assert found["finish_reason"] == "length"
    assert found["calls"][0]["name"] == "weather"
    assert CALL.split('"arguments": ')[1].startswith(found["calls"][0]["arguments"])


def test_without_tools_or_with_none_a_call_is_text(server):
    assert whole(server, CALL, tool_choice="none").message.content == CALL
    assert whole(server, CALL, tools=openai.omit).message.content == CALL


def test_one_call_is_enough_where_no_two_are_wanted(server):
    found = in_short(whole(server, f"{CALL}\n{NOW}", parallel_tool_calls=False))
    assert [call["name"] for call in found["calls"]] == ["weather"]
    assert without_ids(streamed(server, f"{CALL}\n{NOW}", parallel_tool_calls=False)) == without_ids(found)


@pytest.mark.parametrize("text", ["hi", "n", "think", "<think>", "hello there, river?"])
def test_a_thought_that_the_template_opens_is_one_whatever_was_asked(server, text):
    body = {"chat_template_kwargs": {"enable_thinking": True}} | forced("hm</think>Fine.")
    messages = [{"role": "user", "content": text}]
    answer = answer_of(server, messages=messages, extra_body=body).choices[0]
    assert (answer.message.content, answer.message.model_dump()["reasoning"]) == ("Fine.", "hm")


def test_a_form_holds_what_comes_behind_the_thought(server):
    begun = {"chat_template_kwargs": {"enable_thinking": True}, "forced_token_ids": list(b"hm</think>")}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": WEATHER}}
    answer = answer_of(server, response_format=form, seed=1, extra_body=begun)
    message = answer.choices[0].message
    assert message.model_dump()["reasoning"] == "hm"
    assert jsonschema_rs.is_valid(WEATHER, json.loads(message.content))


def test_a_conversation_with_calls_and_their_results_is_rendered(server):
    call = {"id": "abcdefghi", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    messages: Any = [
        *ASK,
        {"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "abcdefghi", "content": "12:00"},
    ]
    assert whole(server, "Noon.", messages=messages).message.content == "Noon."


def test_a_worker_that_is_killed_within_a_call_changes_nothing():
    text = f"<think>{'hm ' * 60}</think>I look.\n{CALL}\n{NOW}"
    with serve("--reasoning-parser", "qwen3", "--fake-step-seconds", "0.01") as server:
        expected = without_ids(streamed(server, text))
        collected, killed = [], 0
        for event in events_of(server, tools=TOOLS, extra_body=forced(text)):
            collected.append(event)
            if not killed and any(call.function.arguments for call in event.choices[0].delta.tool_calls or []):
                killed = server.by_title()["yeoul::Worker_0"]
                os.kill(killed, signal.SIGKILL)
        assert killed not in (0, server.by_title()["yeoul::Worker_0"])
        content = "".join(event.choices[0].delta.content or "" for event in collected)
        arguments = "".join(
            call.function.arguments or ""
            for event in collected
            for call in event.choices[0].delta.tool_calls or []
            if call.function
        )
        assert content == expected["content"]
        assert arguments == "".join(call["arguments"] for call in expected["calls"])


def test_a_model_without_tools_says_so():
    with RunningServer() as server, pytest.raises(openai.BadRequestError, match="takes no tools") as caught:
        whole(server, None)
    assert caught.value.param == "tools"


def proof_of(server: RunningServer) -> dict[str, Any]:
    """What the server says of its model's calls, once it is known."""
    while True:
        card: dict[str, Any]
        (card,) = httpx.get(f"{server.url}/v1/models").json()["data"]
        if card["tool_calls"]["state"] != "pending":
            return card


@pytest.mark.parametrize("family", ["hermes", "qwen3_coder", "llama3_json", "mistral", "pythonic", "deepseek_v31", "openai"])
def test_calls_are_proven_at_the_start(family):
    with serve("--tool-call-parser", family, "--reasoning-parser", "none") as server:
        card = proof_of(server)
        assert card["tool_calls"] == {"family": family, "state": "proven", "reason": ""}
        assert card["reasoning"] == {"family": None}
        assert f"tool calls {family}: proven" in server.log()


def test_a_template_without_tools_is_found_out_at_the_start():
    template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    with RunningServer("--tool-call-parser", "hermes", "--chat-template", template) as server:
        card = proof_of(server)
        assert card["tool_calls"]["state"] == "failed"
        assert "does not show the tools" in card["tool_calls"]["reason"]
    with RunningServer("--chat-template", template) as server:
        assert proof_of(server)["tool_calls"] == {"family": None, "state": "none", "reason": ""}
