"""``/v1/chat/completions`` as OpenAI's own client sees it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.unit.web_process.fake_engine_client import MAX_MODEL_LEN
from tests.unit.web_process.fake_server import FakeServer, serve

HI: list[Any] = [{"role": "user", "content": "hi"}]


def test_an_answer_has_a_message_and_usage():
    async def scene(server: FakeServer) -> None:
        answer = await server.openai.chat.completions.create(model="fake", messages=HI)
        assert answer.id.startswith("chatcmpl-")
        assert answer.object == "chat.completion"
        choice = answer.choices[0]
        assert choice.message.role == "assistant"
        assert choice.message.content == "hello world"
        assert choice.finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 12
        assert server.prompt == "[user] hi\n[assistant]"

    serve(scene)


def test_a_stream_says_who_speaks_first_and_why_it_ends_last():
    async def scene(server: FakeServer) -> None:
        stream = await server.openai.chat.completions.create(
            model="fake", messages=HI, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[0].object == "chat.completion.chunk"
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        assert text == "hello world"
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + 12

    serve(scene)


@pytest.mark.parametrize("has_logprobs", [False, True])
def test_the_event_that_ends_a_choice_has_no_text_and_nothing_is_lost_by_it(has_logprobs):
    async def scene(server: FakeServer) -> None:
        stream = await server.openai.chat.completions.create(
            model="fake", messages=HI, stream=True, max_tokens=3, logprobs=has_logprobs
        )
        *before, last = [chunk.choices[0] async for chunk in stream]
        assert last.finish_reason == "length"
        assert (last.delta.content, last.logprobs) == (None, None)
        assert all(choice.finish_reason is None for choice in before)
        assert "".join(choice.delta.content or "" for choice in before) == "hel"
        tokens = [entry.token for choice in before if choice.logprobs for entry in choice.logprobs.content or []]
        assert tokens == (["h", "e", "l"] if has_logprobs else [])

    serve(scene)


def test_no_top_log_probabilities_may_be_asked_for_without_log_probabilities(lasting):
    async def scene(server: FakeServer) -> None:
        answer = await server.chat(logprobs=False, top_logprobs=0)
        assert answer.json()["choices"][0]["logprobs"] is None

    lasting.play(scene)


def test_without_a_limit_a_chat_may_fill_the_context():
    async def scene(server: FakeServer) -> None:
        await server.openai.chat.completions.create(model="fake", messages=HI)
        add = server.client.added[0]
        assert add.sampling.max_tokens == MAX_MODEL_LEN - len(add.prompt_token_ids)
        await server.openai.chat.completions.create(model="fake", messages=HI, max_tokens=50, max_completion_tokens=5)
        assert server.client.added[1].sampling.max_tokens == 5

    serve(scene)


def test_choices_are_streamed_side_by_side():
    async def scene(server: FakeServer) -> None:
        server.client.reply = lambda add: [ord("a") + add.choice_index] * 3
        stream = await server.openai.chat.completions.create(model="fake", messages=HI, n=2, stream=True)
        texts = {0: "", 1: ""}
        roles = []
        async for chunk in stream:
            choice = chunk.choices[0]
            texts[choice.index] += choice.delta.content or ""
            roles += [choice.index] if choice.delta.role else []
        assert texts == {0: "aaa", 1: "bbb"}
        assert sorted(roles) == [0, 1]

    serve(scene)


@pytest.mark.parametrize("streams", [False, True])
def test_log_probabilities_have_the_likeliest_tokens_and_bytes(streams):
    async def scene(server: FakeServer) -> None:
        fields: dict[str, Any] = {"model": "fake", "messages": HI, "logprobs": True, "top_logprobs": 2, "max_tokens": 2}
        if streams:
            stream = await server.openai.chat.completions.create(**fields, stream=True)
            entries = [
                entry async for chunk in stream if (found := chunk.choices[0].logprobs) for entry in found.content or []
            ]
        else:
            answer = await server.openai.chat.completions.create(**fields)
            assert answer.choices[0].logprobs is not None
            entries = answer.choices[0].logprobs.content or []
        assert [entry.token for entry in entries] == ["h", "e"]
        assert entries[0].bytes == [ord("h")]
        assert entries[0].logprob == pytest.approx(-0.693147)
        assert [top.token for top in entries[0].top_logprobs] == ["h", "?"]

    serve(scene)


def test_messages_become_what_templates_know():
    async def scene(server: FakeServer) -> None:
        parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
        messages: list[Any] = [
            {"role": "developer", "content": "rules"},
            {"role": "user", "content": parts, "name": "me"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]},
            {"role": "tool", "content": "42", "tool_call_id": "1"},
        ]
        await server.openai.chat.completions.create(model="fake", messages=messages)
        assert server.prompt == "[system] rules\n[user] one\ntwo\n[assistant] \n[tool] 42\n[assistant]"

    serve(scene)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "no content"),
        ({"messages": [{"role": "user", "content": 5}]}, "string"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "text only"),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages.0.audio"),
        ({"messages": [{"role": "user", "content": "refuse me"}]}, "I will not"),
        ({"messages": "hi"}, "messages"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "strange"}}, "response_format.type"),
        ({"top_logprobs": 3}, "top_logprobs needs logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs is 21; expected at most 20"),
        ({"chat_template_kwargs": {"messages": []}}, "messages"),
        ({"chat_template_kwargs": {"self": 1}}, "self"),
        ({"modalities": ["audio"]}, "text"),
    ],
)
def test_what_a_chat_cannot_have_is_refused(lasting, fields, error):
    async def scene(server: FakeServer) -> None:
        answer = await server.chat(**fields)
        assert answer.status_code == 400
        assert error in answer.json()["error"]["message"]
        assert server.client.added == []

    lasting.play(scene)


def test_fields_for_openais_own_platform_are_ignored():
    async def scene(server: FakeServer) -> None:
        answer = await server.chat(
            store=True, metadata={"a": "b"}, service_tier="auto", parallel_tool_calls=True, tools=[], user="u",
            response_format={"type": "text"}, reasoning_effort="low", modalities=["text"], tool_choice="auto",
        )  # fmt: skip
        assert answer.status_code == 200

    serve(scene)


def test_a_long_chat_is_written_and_tokenized_off_the_loop():
    async def scene(server: FakeServer) -> None:
        late = await asyncio.gather(server.chat(messages=[{"role": "user", "content": "x" * 500_000}]), server.chat())
        assert late[0].status_code == 400
        assert late[0].json()["error"]["code"] == "context_length_exceeded"
        assert late[1].status_code == 200

    serve(scene)


def test_a_chat_can_be_tokenized_and_its_tokens_read_back():
    async def scene(server: FakeServer) -> None:
        answer = await server.http.post("/tokenize", json={"messages": HI, "return_token_strs": True})
        body = answer.json()
        assert bytes(body["tokens"]).decode() == "[user] hi\n[assistant]"
        assert body["count"] == len(body["tokens"]) == len(body["token_strs"])
        assert body["max_model_len"] == MAX_MODEL_LEN
        text = await server.http.post("/detokenize", json={"tokens": body["tokens"]})
        assert json.loads(text.content) == {"prompt": "[user] hi\n[assistant]"}
        plain = await server.http.post("/tokenize", json={"prompt": "hi", "add_special_tokens": False})
        assert plain.json()["tokens"] == [104, 105]
        for bad in ({"tokens": [512]}, {"tokens": [-1]}):
            assert (await server.http.post("/detokenize", json=bad)).status_code == 400
        for neither_or_both in ({}, {"prompt": "x", "messages": HI}):
            assert (await server.http.post("/tokenize", json=neither_or_both)).status_code == 400

    serve(scene)
