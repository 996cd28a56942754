"""A conversation made short: what OpenAI's client and agents ask for, and what the model is told afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, LastingServer
from yeoul.web_process.responses.compaction import ASKED, opened, sealed
from yeoul.web_process.responses.messages import messages_of
from yeoul.web_process.responses.schemas.input_items import InputItem

TURNS: list[dict[str, Any]] = [
    {"role": "developer", "content": "be brief"},
    {"role": "user", "content": "list the files"},
    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
    {"type": "function_call", "call_id": "a", "name": "ls", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "a", "output": "a.txt"},
    {"role": "assistant", "content": "There is a.txt."},
    {"role": "user", "content": "read it"},
]
TRIGGER = {"type": "compaction_trigger"}


@pytest.fixture(scope="module")
def roomy() -> Iterator[LastingServer]:
    with LastingServer(settings(max_model_len=1024)) as server:
        yield server


def texts(*items: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        (message["role"], message["content"]) for message in messages_of(None, msgspec.convert(list(items), list[InputItem]))
    ]


@given(st.text())
def test_what_is_in_a_compaction_is_told_again(text):
    assert opened(sealed(text)).endswith(text)
    assert not set(sealed(text)) & set(" \n")


@pytest.mark.parametrize("content", ["", "gAAAAABn", "yeoul-1:", "yeoul-1:#", "yeoul-1:/w==", "yeoul-1:YQ", "yeoul-2:YQ=="])
def test_what_another_server_has_made_is_refused_in_words(roomy, content):
    async def scene(server: FakeServer) -> None:
        items = [{"type": "compaction", "id": "cmp_1", "encrypted_content": content}, *TURNS[:2]]
        answer = await server.http.post("/v1/responses", json={"input": items})
        if content == "yeoul-1:":  # the model had nothing to say
            assert answer.status_code == 200
            return
        assert answer.status_code == 400
        assert "made by another server" in answer.json()["error"]["message"]
        assert not server.client.added

    roomy.play(scene)


def test_a_compaction_stands_for_all_before_it_but_what_was_said_to_the_model():
    compaction = {"type": "compaction", "encrypted_content": sealed("It is a.txt.")}
    told = texts(*TURNS, compaction, {"role": "user", "content": "and now?"})
    assert told == [
        ("system", "be brief"),
        ("user", "list the files"),
        ("user", "read it"),
        ("assistant", "Where the conversation stands:\n\nIt is a.txt."),
        ("user", "and now?"),
    ]
    later = {"type": "compaction", "encrypted_content": sealed("Later.")}
    told = texts(*TURNS[:2], compaction, *TURNS[5:], TRIGGER, later)
    assert [role for role, _ in told] == ["system", "user", "user", "assistant"], "neither the earlier one nor the trigger"
    assert texts(*TURNS[:2], TRIGGER)[-1] == ("user", ASKED)


def test_openais_client_makes_a_conversation_short_and_goes_on_with_it(roomy):
    async def scene(server: FakeServer) -> None:
        items: Any = TURNS
        short = await server.openai.responses.compact(model="fake", input=items, instructions="be kind")
        (add,) = server.client.added
        assert ASKED in server.prompt
        assert "[user] read it" in server.prompt
        assert add.sampling.max_tokens is not None
        assert short.object == "response.compaction"
        assert [item.type for item in short.output] == ["message", "message", "message", "compaction"]
        assert short.usage.output_tokens == 12
        compaction: Any = short.output[-1]
        assert opened(compaction.encrypted_content).endswith("hello world")
        going_on: Any = [item.model_dump(exclude_none=True, warnings=False) for item in short.output]
        await server.openai.responses.create(model="fake", input=[*going_on, {"role": "user", "content": "next"}])
        assert server.prompt.endswith(
            "[user] read it\n[assistant] Where the conversation stands:\n\nhello world\n[user] next\n[assistant]"
        )
        assert "There is a.txt" not in server.prompt

    roomy.play(scene)


@pytest.mark.parametrize("stream", [False, True])
def test_a_trigger_is_answered_with_one_compaction(roomy, stream):
    async def scene(server: FakeServer) -> None:
        tools = [{"type": "function", "name": "ls", "parameters": {}}]
        body = {"input": [*TURNS, TRIGGER], "tools": tools, "tool_choice": "required", "stream": stream, "store": True}
        answer = await server.http.post("/v1/responses", json=body)
        assert answer.status_code == 200, answer.text
        if stream:
            events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
            kinds = [event["type"].removeprefix("response.") for event in events]
            assert kinds == ["created", "in_progress", "output_item.added", "output_item.done", "completed"]
            response = events[-1]["response"]
        else:
            response = answer.json()
        (item,) = response["output"]
        assert opened(item["encrypted_content"]).endswith("hello world")
        goes_on = await server.http.post("/v1/responses", json={"previous_response_id": response["id"], "input": "next"})
        assert goes_on.status_code == 200, goes_on.text
        assert server.prompt.count("[user]") == 3
        assert ASKED not in server.prompt
        assert "hello world\n[user] next" in server.prompt
        shorter = await server.openai.responses.compact(model="fake", previous_response_id=goes_on.json()["id"])
        assert [item.type for item in shorter.output] == ["message"] * 4 + ["compaction"]

    roomy.play(scene)


def test_what_the_model_cannot_be_told_of_a_long_conversation_is_left_out(roomy):
    async def scene(server: FakeServer) -> None:
        items: Any = [{"role": "user", "content": "old " * 40}, {"role": "assistant", "content": "older " * 30}] * 3
        items += TURNS[-1:]
        short = await server.openai.responses.compact(model="fake", input=items)
        assert len(short.output) == 5, "nothing of it is lost in the answer"
        assert server.prompt.count("old ") < 120

    roomy.play(scene)


@pytest.mark.parametrize(
    ("path", "fields", "error"),
    [
        ("", {"input": [TRIGGER, *TURNS]}, "has to be the last item"),
        ("/compact", {"model": "fake", "input": [*TURNS, {"type": "compaction"}]}, "no encrypted_content"),
        ("/compact", {"model": "fake"}, "input"),
        ("/compact", {"input": "hi"}, "model"),
        ("/compact", {"model": "fake", "input": 7}, "input"),
        ("/compact", {"model": "fake", "previous_response_id": "resp_none"}, "resp_none"),
        ("/compact", {"input": "hi", "model": "other"}, "other"),
    ],
)
def test_what_cannot_be_made_short_is_refused(roomy, path, fields, error):
    async def scene(server: FakeServer) -> None:
        answer = await server.http.post(f"/v1/responses{path}", json=fields)
        assert answer.status_code in (400, 404)
        assert error in answer.json()["error"]["message"]
        assert not server.client.added

    roomy.play(scene)


def test_where_the_model_says_nothing_it_is_said(roomy):
    async def scene(server: FakeServer) -> None:
        reply, server.client.reply = server.client.reply, lambda add: add.eos_token_ids[:1]
        answer = await server.http.post("/v1/responses/compact", json={"model": "fake", "input": TURNS})
        server.client.reply = reply
        assert answer.status_code == 500
        assert "go on with it as it is" in answer.json()["error"]["message"]

    roomy.play(scene)
