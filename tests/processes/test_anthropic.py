"""/v1/messages as Anthropic's own client sees it, to the last event: the tokens are forced, all else is real.

Template, tools and answers are those of ``forced_calls.py``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import pydantic
import pytest

from tests.processes.forced_calls import CALL, NOW, WEATHER, forced, serve
from tests.running_server import RunningServer

TOOLS: Any = [
    {"name": "weather", "description": "tells it", "input_schema": WEATHER},
    {"name": "now", "input_schema": {"type": "object", "properties": {}}},
]
ASK: Any = [{"role": "user", "content": "How is the weather by the river?"}]
THOUGHTFUL = f"<think>\nThe river, hm.\n</think>\n\nI look.\n{CALL}\n{NOW}"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    names = ("--served-model-name", "claude-like", "--served-model-name", "fake")
    with serve("--reasoning-parser", "qwen3", *names) as running:
        yield running


@pytest.fixture(scope="module")
def plain() -> Iterator[RunningServer]:
    """A model that does not think first, and is told to be quick."""
    with serve("--reasoning-parser", "none") as running:
        yield running


def client_of(server: RunningServer, **options: Any) -> Any:
    """A client; what is sent is as untyped as what people send."""
    return anthropic.Anthropic(base_url=server.url, **{"api_key": "none", "max_retries": 0, "timeout": 60.0, **options})


def ask(server: RunningServer, text: str | None = None, **fields: Any) -> dict[str, Any]:
    """The fields of a call that makes the model say this."""
    more = {} if text is None else {"extra_body": forced(text)}
    return {"model": "fake", "max_tokens": 1000, "messages": ASK, **more, **fields}


def whole(server: RunningServer, text: str | None = None, **fields: Any) -> Any:
    with client_of(server) as client:
        return client.messages.create(**ask(server, text, **fields))


def streamed(server: RunningServer, text: str | None = None, **fields: Any) -> Any:
    """The message that the client's own helper makes of the events."""
    with client_of(server) as client, client.messages.stream(**ask(server, text, **fields)) as stream:
        return stream.get_final_message()


def in_short(message: Any) -> tuple[list[dict[str, Any]], str, str | None, int]:
    blocks = [{name: value for name, value in block.to_dict().items() if name != "id"} for block in message.content]
    return blocks, message.stop_reason, message.stop_sequence, message.usage.output_tokens


CASES: dict[str, tuple[str, list[tuple[str, Any]], str]] = {
    "text alone": ("The weather is fine.", [("text", "The weather is fine.")], "end_turn"),
    "nothing": ("", [("text", "")], "end_turn"),
    "one call": (CALL, [("weather", {"city": 'Süß "Fluß"', "days": 3})], "tool_use"),
    "reasoning, text and two calls": (
        THOUGHTFUL,
        [
            ("thinking", "The river, hm."),
            ("text", "I look."),
            ("weather", {"city": 'Süß "Fluß"', "days": 3}),
            ("now", {}),
        ],
        "tool_use",
    ),
    "what only looks like a call": ("a <tool_call> of duty", [("text", "a <tool_call> of duty")], "end_turn"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_answer_is_the_same_whole_and_streamed(server, name):
    text, blocks, reason = CASES[name]
    found = whole(server, text, tools=TOOLS)
    shown = [
        (block.name, block.input) if block.type == "tool_use" else (block.type, getattr(block, block.type).strip())
        for block in found.content
    ]
    assert shown == blocks
    assert found.stop_reason == reason
    assert found.id.startswith("msg_")
    assert found.model == "fake"
    assert in_short(streamed(server, text, tools=TOOLS)) == in_short(found)


def test_the_events_come_in_their_order_under_their_names(server):
    with client_of(server) as client:
        response = client.messages.create(**ask(server, "<think>hm</think>Fine.", stream=True)).response
        lines = [line for line in response.iter_lines() if line]
    assert response.headers["content-type"].startswith("text/event-stream")
    names = [line.removeprefix("event: ") for line in lines[::2]]
    events = [json.loads(line.removeprefix("data: ")) for line in lines[1::2]]
    assert [event["type"] for event in events] == names
    assert names[:3] == ["message_start", "ping", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    begun = events[0]["message"]
    assert (begun["content"], begun["stop_reason"], begun["usage"]["output_tokens"]) == ([], None, 0)
    deltas = [event["delta"]["type"] for event in events if event["type"] == "content_block_delta"]
    assert set(deltas) == {"thinking_delta", "signature_delta", "text_delta"}
    starts = [(event["index"], event["content_block"]) for event in events if event["type"] == "content_block_start"]
    assert starts == [
        (0, {"type": "thinking", "thinking": "", "signature": ""}),
        (1, {"type": "text", "text": ""}),
    ]
    assert [event["index"] for event in events if event["type"] == "content_block_stop"] == [0, 1]
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


def test_why_an_answer_ends(server):
    assert whole(server, "one two three", max_tokens=7).stop_reason == "max_tokens"
    found = whole(server, "one two three", stop_sequences=["zz", " two"])
    assert (found.stop_reason, found.stop_sequence, found.content[0].text) == ("stop_sequence", " two", "one")
    assert in_short(streamed(server, "one two three", stop_sequences=[" two"])) == in_short(found)
    cut = whole(server, CALL, tools=TOOLS, max_tokens=CALL.encode().index(b', "days'))
    assert (cut.stop_reason, cut.content[0].name) == ("max_tokens", "weather")
    assert cut.content[0].input == {"city": 'Süß "Fluß"'}
    assert in_short(streamed(server, CALL, tools=TOOLS, max_tokens=cut.usage.output_tokens)) == in_short(cut)


def test_more_tokens_than_there_is_room_for_may_be_asked_for(server):
    found = whole(server, None, max_tokens=32000, extra_body={"ignore_eos": True})
    assert found.stop_reason == "model_context_window_exceeded"
    assert found.usage.input_tokens + found.usage.cache_read_input_tokens + found.usage.output_tokens == 4096


def test_what_is_read_from_the_cache_is_no_input(server):
    messages: Any = [{"role": "user", "content": "a long story " * 30}]
    first = whole(server, "yes", messages=messages).usage
    second = whole(server, "yes", messages=messages).usage
    counted = client_of(server).messages.count_tokens(model="fake", messages=messages).input_tokens
    assert first.cache_read_input_tokens < second.cache_read_input_tokens
    for usage in (first, second, streamed(server, "yes", messages=messages).usage):
        assert usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens == counted
    assert second.input_tokens > 0


def test_tokens_are_counted_with_everything_that_the_template_shows(server):
    with client_of(server) as client:
        count: Callable[..., Any] = client.messages.count_tokens
        alone = count(model="fake", messages=ASK).input_tokens
        assert count(model="fake", messages=ASK, system="be kind").input_tokens > alone
        assert count(model="fake", messages=ASK, tools=TOOLS).input_tokens > alone
        assert count(model="fake", messages=ASK, thinking={"type": "adaptive"}).input_tokens == alone + len("<think>\n")


def test_a_loop_of_tools_is_closed_with_its_results(server):
    first = whole(server, THOUGHTFUL, tools=TOOLS)
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "3 °C"}]}
        for block in first.content
        if block.type == "tool_use"
    ]
    messages = [*ASK, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    assert whole(server, "Cold.", tools=TOOLS, messages=messages).content[0].text == "Cold."


def test_an_answer_goes_on_with_what_the_assistant_has_begun(server):
    begun: Any = [*ASK, {"role": "assistant", "content": "The answer is ("}]
    counted = client_of(server).messages.count_tokens(model="fake", messages=begun).input_tokens
    found = whole(server, "B)", messages=begun)
    assert (found.content[0].text, found.stop_reason) == ("B)", "end_turn")
    assert found.usage.input_tokens + found.usage.cache_read_input_tokens == counted
    user = "<|im_start|>user\nHow is the weather by the river?<|im_end|>\n"
    assert counted == len(f"{user}<|im_start|>assistant\nThe answer is (")


def test_the_clients_own_tool_runner(server):
    asked: list[str] = []

    @anthropic.beta_tool
    def weather(city: str, days: int) -> str:
        """Tells it."""
        asked.append(city)
        return f"rain for {days} days"

    with client_of(server) as client:
        runner = client.beta.messages.tool_runner(
            model="fake", max_tokens=500, tools=[weather], messages=ASK, max_iterations=2, extra_body=forced(CALL)
        )
        messages = list(runner)
    assert messages[0].stop_reason == "tool_use"
    assert len(messages) == 2
    assert asked[0] == 'Süß "Fluß"'
    # The second answer has read all that was said before.
    prompts = [message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) for message in messages]
    assert prompts[1] > prompts[0] + messages[0].usage.output_tokens


class Report(pydantic.BaseModel):
    city: str
    days: int


def test_an_answer_of_a_given_form(plain):
    with client_of(plain) as client:
        text = '{"city": "Bonn", "days": 3}'
        parsed = client.messages.parse(**ask(plain, text), output_format=Report)
        assert parsed.parsed_output == Report(city="Bonn", days=3)
        made = client.messages.create(
            **ask(plain, max_tokens=400, extra_body={"seed": 3}),
            output_config={"format": {"type": "json_schema", "schema": WEATHER}},
        )
        if made.stop_reason == "end_turn":
            assert json.loads(made.content[0].text).keys() == {"city", "days"}
        with pytest.raises(anthropic.BadRequestError, match=r"output_config\.format\.schema at"):
            client.messages.create(
                **ask(plain),
                output_config={"format": {"type": "json_schema", "schema": {"type": "array", "uniqueItems": True}}},
            )


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_call_that_is_asked_for_comes(plain, choice):
    found = whole(plain, tools=TOOLS, tool_choice=choice, max_tokens=600, extra_body={"seed": 3})
    assert {block.type for block in found.content} == {"tool_use"}
    if choice["type"] == "tool":
        assert [block.name for block in found.content] == ["weather"]


def test_one_call_is_enough_where_no_two_are_wanted(server):
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    found = whole(server, f"{CALL}\n{NOW}", tools=TOOLS, tool_choice=choice)
    assert [block.name for block in found.content] == ["weather"]
    assert in_short(streamed(server, f"{CALL}\n{NOW}", tools=TOOLS, tool_choice=choice)) == in_short(found)


def test_raw_and_streaming_responses_and_the_id_of_a_request(server):
    with client_of(server) as client:
        raw = client.messages.with_raw_response.create(**ask(server, "yes"))
        assert raw.headers["request-id"].startswith("req_")
        assert raw.parse()._request_id == raw.headers["request-id"]
        with client.messages.with_streaming_response.create(**ask(server, "yes")) as response:
            assert response.parse().content[0].text == "yes"


def test_asynchronous_clients(server):
    async def scene() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none", max_retries=0) as client:
            fields: Any = ask(server, "the weather is fine")
            answer = await client.messages.create(**fields)
            async with client.messages.stream(**fields) as stream:
                pieces = [piece async for piece in stream.text_stream]
            return [str(answer.content[0].to_dict()["text"]), "".join(pieces)]

    assert asyncio.run(scene()) == ["the weather is fine"] * 2


def test_who_leaves_midway_is_computed_for_no_longer(server):
    with client_of(server) as client:
        with client.messages.stream(**ask(server, None, max_tokens=3900, extra_body={"ignore_eos": True})) as stream:
            next(iter(stream))
        deadline = time.monotonic() + 10.0
        while server.metrics()["yeoul:num_requests_running"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_client_that_repeats_gets_its_answer_from_a_server_that_is_starting():
    with RunningServer(wait=False) as server, client_of(server, max_retries=20) as client:
        assert client.messages.create(**ask(server, max_tokens=3)).usage.output_tokens == 3


def test_models_are_listed_in_pages_and_told_one_by_one(server):
    with client_of(server) as client:
        page = client.models.list(limit=1)
        assert ([model.id for model in page.data], page.has_more, page.last_id) == (["claude-like"], True, "claude-like")
        assert [model.id for model in client.models.list(limit=1)] == ["claude-like", "fake"], "from page to page"
        assert [model.id for model in client.models.list(before_id="fake")] == ["claude-like"]
        everything = client.models.list()
        assert (everything.has_more, everything.first_id, everything.last_id) == (False, "claude-like", "fake")
        model = client.models.retrieve("fake")
        assert (model.type, model.display_name, model.lifecycle) == ("model", "fake", "active")
        assert abs(model.created_at.timestamp() - time.time()) < 24 * 3600
        assert model.max_input_tokens == httpx.get(f"{server.url}/v1/models").json()["data"][0]["max_model_len"]
        type(model).model_validate(model.model_dump(), strict=False)
        for answer in (page, everything):
            assert "object" not in answer.model_dump()
        for attempt, kind in (
            (lambda: client.models.retrieve("nothing"), anthropic.NotFoundError),
            (lambda: client.models.list(after_id="nothing"), anthropic.NotFoundError),
            (lambda: client.models.list(after_id="fake", before_id="fake"), anthropic.BadRequestError),
            (lambda: client.models.list(limit=0), anthropic.BadRequestError),
            (lambda: client.models.list(limit="x"), anthropic.BadRequestError),
        ):
            with pytest.raises(kind) as caught:
                attempt()
            assert caught.value.body["type"] == "error"  # type: ignore[index]
            assert caught.value.request_id
        assert httpx.get(f"{server.url}/v1/modelsx", headers={"anthropic-version": "x"}).status_code == 404
        assert httpx.get(f"{server.url}/models", headers={"anthropic-version": "x"}).json()["first_id"] == "claude-like"


def test_keys_are_known_in_both_headers():
    with RunningServer("--api-key", "first", "--api-key", "second") as server:
        with client_of(server, api_key="second") as client:
            assert client.messages.create(**ask(server, max_tokens=2)).usage.output_tokens == 2
        with client_of(server, api_key=None, auth_token="first") as client:
            assert client.messages.create(**ask(server, max_tokens=2)).usage.output_tokens == 2
        assert httpx.get(f"{server.url}/v1/models", headers={"x-api-key": "first"}).status_code == 200
        assert httpx.get(f"{server.url}/v1/models", headers={"x-api-key": "Bearer first"}).status_code == 401
        with client_of(server, api_key="third") as client, pytest.raises(anthropic.AuthenticationError) as caught:
            client.messages.create(**ask(server))
        assert caught.value.type == "authentication_error"
        assert caught.value.request_id == caught.value.body["request_id"]  # type: ignore[index]


ERRORS: list[tuple[dict[str, Any], int, str, str]] = [
    ({"json": {"max_tokens": 5}}, 400, "invalid_request_error", "the field 'messages' is missing"),
    ({"json": {"messages": ASK}}, 400, "invalid_request_error", "the field 'max_tokens' is missing"),
    ({"json": {"messages": ASK, "max_tokens": 0}}, 400, "invalid_request_error", "max_tokens is 0"),
    ({"content": b"{"}, 400, "invalid_request_error", "not valid JSON"),
    ({"content": b" " * (5 << 20)}, 413, "request_too_large", "this server reads at most"),
    ({"content": b"a=b", "headers": {"content-type": "text/plain"}}, 415, "invalid_request_error", "send JSON"),
    (
        {"json": {"messages": ASK, "max_tokens": 5, "model": "claude-opus-5"}},
        404,
        "not_found_error",
        "this server has claude-like, fake",
    ),
    (
        {"json": {"messages": [{"role": "user", "content": "x" * 5000}], "max_tokens": 5}},
        400,
        "invalid_request_error",
        "prompt is too long: the prompt has",
    ),
    (
        {"json": {"messages": ASK, "max_tokens": 50, "deadline_seconds": 0.001}},
        408,
        "timeout_error",
        "",
    ),
]


@pytest.mark.parametrize(("request_", "status", "kind", "message"), ERRORS)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages?beta=true"])
def test_errors_have_their_shape_and_name(server, request_, status, kind, message, path):
    headers = {"content-type": "application/json", **request_.get("headers", {})}
    answer = httpx.post(f"{server.url}{path}", **{**request_, "headers": headers}, timeout=30.0)
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"type", "error", "request_id"}
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert message in body["error"]["message"]
    assert body["request_id"] == answer.headers["request-id"]


def test_routes_that_are_not_there(server):
    answer = httpx.get(f"{server.url}/v1/messages/batches")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
    assert httpx.get(f"{server.url}/v1/messages").json()["error"]["type"] == "invalid_request_error"


def test_what_has_no_effect_is_named(server):
    more = {
        "context_management": {"edits": []},
        "metadata": {"user_id": "x"},
        "service_tier": "auto",
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "output_config": {"effort": "high"},
        "something": 1,
    }
    answer = httpx.post(f"{server.url}/v1/messages", json={"messages": ASK, "max_tokens": 3, **more}, timeout=30.0)
    assert answer.status_code == 200, answer.text
    ignored = answer.headers["yeoul-ignored-fields"].split(", ")
    assert sorted(ignored) == ["context_management", "output_config.effort", "something"]
