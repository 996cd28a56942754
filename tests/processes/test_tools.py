"""Tools and reasoning as OpenAI's own client sees them, to the last event: the tokens are forced, all else is real.

The fake model has a token a byte, so an answer is forced as its bytes. The template is Qwen's way of showing tools, in short.
"""

# size: one template, one set of tools and one client's reading of events serve all of it: what is read, and what is held

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import openai
import pytest

from tests.running_server import RunningServer
from yeoul.model_files.tokenizer_source import FAKE_EOS_TOKEN_ID

TEMPLATE = (
    "{% if tools %}<|im_start|>system\n<tools>{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}</tools>"
    '<tool_call>\n{"name": ..., "arguments": ...}\n</tool_call><|im_end|>\n{% endif %}'
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}{{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is true %}<think>\n{% endif %}{% endif %}"
)
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "description": "tells it", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]
ASK: Any = [{"role": "user", "content": "How is the weather by the river?"}]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Süß \\"Fluß\\"", "days": 3}}\n</tool_call>'
NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


def serve(*flags: str) -> RunningServer:
    return RunningServer(
        "--allow-forced-tokens",
        "--chat-template",
        TEMPLATE,
        "--max-model-len",
        "4096",
        "--fake-step-seconds",
        "0.001",
        *flags,
    )


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serve("--reasoning-parser", "qwen3") as running:
        yield running


@pytest.fixture(scope="module")
def plain() -> Iterator[RunningServer]:
    """A model that does not think first: the fake one would think for ever."""
    with serve("--reasoning-parser", "none") as running:
        yield running


_clients: list[openai.OpenAI] = []


@pytest.fixture(autouse=True)
def _clients_are_closed() -> Iterator[None]:
    yield
    while _clients:
        _clients.pop().close()


def client_of(server: RunningServer) -> Any:
    """A client; what is sent is as untyped as what people send."""
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60.0)
    _clients.append(client)
    return client


def forced(text: str) -> dict[str, Any]:
    """The body's field that makes the model say this, and then end."""
    return {"forced_token_ids": [*text.encode(), FAKE_EOS_TOKEN_ID]}


def whole(server: RunningServer, text: str | None, **fields: Any) -> Any:
    more = {} if text is None else {"extra_body": forced(text)}
    fields = {"tools": TOOLS, "messages": ASK} | fields
    return client_of(server).chat.completions.create(model="fake", **fields, **more).choices[0]


def streamed(server: RunningServer, text: str | None, **fields: Any) -> dict[str, Any]:
    """The choice that the events add up to, in the shape of a whole one; every event is checked on the way."""
    more = {} if text is None else {"extra_body": forced(text)}
    fields = {"tools": TOOLS, "messages": ASK} | fields
    content, reasoning, reason = "", "", None
    calls: list[dict[str, Any]] = []
    for chunk in client_of(server).chat.completions.create(model="fake", stream=True, **fields, **more):
        (choice,) = chunk.choices
        assert reason is None, "nothing follows the end"
        content += choice.delta.content or ""
        reasoning += getattr(choice.delta, "reasoning", None) or ""
        for call in choice.delta.tool_calls or []:
            assert call.function is not None
            if call.index == len(calls):
                assert call.id
                assert call.type == "function"
                assert call.function.name
                calls.append({"name": call.function.name, "arguments": "", "id": call.id})
            else:
                assert call.index == len(calls) - 1
                assert call.id is None
                assert call.function.arguments, "an empty delta"
            calls[-1]["arguments"] += call.function.arguments or ""
        reason = choice.finish_reason
    return {"content": content or None, "reasoning": reasoning or None, "calls": calls, "finish_reason": reason}


def in_short(choice: Any) -> dict[str, Any]:
    message = choice.message
    calls = [
        {"name": call.function.name, "arguments": call.function.arguments, "id": call.id} for call in message.tool_calls or []
    ]
    reasoning = getattr(message, "reasoning", None)
    return {
        "content": message.content or None,
        "reasoning": reasoning,
        "calls": calls,
        "finish_reason": choice.finish_reason,
    }


def without_ids(choice: dict[str, Any]) -> dict[str, Any]:
    return choice | {"calls": [{key: call[key] for key in ("name", "arguments")} for call in choice["calls"]]}


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
    answer = client_of(server).chat.completions.create(
        model="fake", messages=ASK, extra_body=forced("<think>four</think>Fine.")
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 4
    message = answer.choices[0].message.model_dump()
    assert message["reasoning"] == message["reasoning_content"] == "four"


def test_an_answer_that_the_template_opens_inside_reasoning(server):
    body = {"chat_template_kwargs": {"enable_thinking": True}} | forced("hm</think>Fine.")
    answer = client_of(server).chat.completions.create(model="fake", messages=ASK, extra_body=body).choices[0]
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
    answer = client_of(plain).chat.completions.create(
        model="fake", messages=ASK, tools=strict, extra_body=body, seed=1, max_tokens=400
    )
    (call, *_) = in_short(answer.choices[0])["calls"]
    assert fits(call)
    with pytest.raises(openai.BadRequestError, match="grammar"):
        client_of(plain).chat.completions.create(
            model="fake", messages=ASK, tools=strict, extra_body={"forced_token_ids": list((begun + "5").encode())}
        )


@pytest.mark.parametrize("text", ["hi", "n", "think", "<think>", "hello there, river?"])
def test_a_thought_that_the_template_opens_is_one_whatever_was_asked(server, text):
    body = {"chat_template_kwargs": {"enable_thinking": True}} | forced("hm</think>Fine.")
    messages = [{"role": "user", "content": text}]
    answer = client_of(server).chat.completions.create(model="fake", messages=messages, extra_body=body).choices[0]
    assert (answer.message.content, answer.message.model_dump()["reasoning"]) == ("Fine.", "hm")


def test_a_form_holds_what_comes_behind_the_thought(server):
    begun = {"chat_template_kwargs": {"enable_thinking": True}, "forced_token_ids": list(b"hm</think>")}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": WEATHER}}
    answer = client_of(server).chat.completions.create(
        model="fake", messages=ASK, response_format=form, seed=1, extra_body=begun
    )
    message = answer.choices[0].message
    assert message.model_dump()["reasoning"] == "hm"
    assert jsonschema_rs.is_valid(WEATHER, json.loads(message.content))


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
def test_what_cannot_be_called_is_refused(server, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        whole(server, None, **fields)
    assert caught.value.param == param


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
        events = iter(client_of(server).chat.completions.create(
            model="fake", messages=ASK, tools=TOOLS, stream=True, extra_body=forced(text)
        ))  # fmt: skip
        collected, killed = [], 0
        for event in events:
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


def test_a_model_without_tools_says_so():
    with RunningServer() as server, pytest.raises(openai.BadRequestError, match="takes no tools") as caught:
        whole(server, None)
    assert caught.value.param == "tools"


@pytest.mark.parametrize(
    "parameters", [{"required": True}, {"required": [{}]}, {"properties": [1]}, {"properties": {"a b": {}}}]
)
def test_parameters_that_are_no_schema_are_the_requests_own_mistake(parameters):
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    with serve("--tool-call-parser", "pythonic", "--reasoning-parser", "none") as server:
        with pytest.raises(openai.BadRequestError) as caught:
            whole(server, None, tools=tools, tool_choice="required")
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
