"""What a body has that is not known: passed over and named, or refused where it would change the answer."""

from __future__ import annotations

import json
import logging
from typing import Any

import openai
import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve
from yeoul.web_process.http import unknown_fields
from yeoul.web_process.http.unknown_fields import STEERING
from yeoul.web_process.openai.schemas.chat import ChatRequest
from yeoul.web_process.openai.schemas.completions import CompletionRequest

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
HEADER = "yeoul-ignored-fields"


# What clients send back of an assistant's message: vLLM's, the SDK's parse(), LiteLLM's, OpenRouter's, a web page's. -> named
SENT_BACK: list[tuple[dict[str, Any], str]] = [
    (
        {"reasoning": None, "reasoning_content": None, "refusal": None, "annotations": None, "audio": None, "tool_calls": []},
        "",
    ),
    ({"parsed": None, "refusal": None, "function_call": None}, ""),
    ({"provider_specific_fields": {"refusal": None}, "images": []}, "messages.images, messages.provider_specific_fields"),
    ({"reasoning_details": [], "prefix": False, "partial": False}, ""),
    ({"id": "m1", "timestamp": 1}, "messages.id, messages.timestamp"),
]


@pytest.mark.parametrize(("extra", "named"), SENT_BACK, ids=lambda value: str(value)[:30])
def test_an_assistants_message_may_come_back_as_it_was_or_as_another_server_made_it(lasting, extra, named):
    async def scene(server: FakeServer) -> None:
        answer = await server.chat(messages=[USER, ASSISTANT | extra, USER])
        assert answer.status_code == 200, answer.text
        assert answer.headers.get(HEADER, "") == named

    lasting.play(scene)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"messages": [USER | {"metadata": {"_db_id": "7"}}]}, "messages.metadata"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "x"}}]}]},
            "messages.content.cache_control",
        ),
        ({"stream": True, "stream_options": {"include_usage": True, "x": 1}}, "stream_options.x"),
        ({"moderation": {"a": 1}, "store": True, "xyzzy": None}, "moderation, store"),
        ({"temprature": 1}, "temprature"),
        ({"a b\r\nx: y": 1, "é" * 200: 1}, "a?b??x??y, " + "?" * 64),
        ({f"x{index:02}": 1 for index in range(40)}, ", ".join(f"x{index:02}" for index in range(16)) + ", ..."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_steers_nothing_is_passed_over_and_named_in_a_header(lasting, fields, named):
    async def scene(server: FakeServer) -> None:
        answer = await server.chat(**fields)
        assert answer.status_code == 200, answer.text
        assert answer.headers[HEADER] == named

    lasting.play(scene)


def test_the_answer_is_the_one_without_the_field_and_has_no_header_then(lasting):
    async def scene(server: FakeServer) -> None:
        for path, field in (("/v1/completions", "prompt"), ("/v1/embeddings", "input"), ("/tokenize", "prompt")):
            plain = await server.http.post(path, json={field: "hi"})
            named = await server.http.post(path, json={field: "hi", "xyzzy": {"a": [1]}})
            assert (plain.status_code, named.status_code) == (200, 200)
            assert HEADER not in plain.headers
            assert named.headers[HEADER] == "xyzzy"
        refused = await server.http.post("/v1/completions", json={"prompt": "hi", "xyzzy": 1, "n": 0})
        assert (refused.status_code, refused.headers[HEADER]) == (400, "xyzzy")

    lasting.play(scene)


def test_a_name_is_logged_once_and_no_more_names_than_a_log_can_bear(monkeypatch, caplog):
    monkeypatch.setattr(unknown_fields, "_logged", set())
    monkeypatch.setattr(unknown_fields, "_MAX_NUM_LOGGED", 3)

    async def scene(server: FakeServer) -> None:
        for index in range(6):
            await server.complete(**{"xyzzy": 1, f"y{index}\n": 1})

    with caplog.at_level(logging.WARNING):
        serve(scene)
    said = [record.getMessage() for record in caplog.records if "no effect" in record.getMessage()]
    assert [line.split()[5] for line in said] == ["xyzzy,", "y0?,", "y1?,"]


@pytest.mark.parametrize("name", sorted(STEERING))
def test_what_would_change_the_answer_is_refused_unless_it_asks_for_nothing(lasting, name):
    async def scene(server: FakeServer) -> None:
        for path, body in (("/v1/completions", {"prompt": "hi"}), ("/v1/chat/completions", {"messages": [USER]})):
            model = ChatRequest if "messages" in body else CompletionRequest
            for neutral in (None, *STEERING[name]) if name not in model.__struct_fields__ else ():
                answer = await server.http.post(path, json=body | {name: neutral})
                assert answer.status_code == 200, answer.text
            answer = await server.http.post(path, json=body | {name: {"type": "thing"}})
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == name
            assert name in answer.json()["error"]["message"]

    lasting.play(scene)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"typical_p": 0.9}, "typical_p is not supported and would change the answer"),
        ({"dry_multiplier": 0.8, "dry_base": 1.75}, "dry_multiplier"),
        ({"repeat_penalty": 1.1}, "use repetition_penalty"),
        ({"n_predict": 64}, "use max_tokens"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"best_of": 4}, "best_of is 4"),
        ({"suffix": "end"}, "suffix"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_refusal_names_what_to_do(lasting, fields, words):
    async def scene(server: FakeServer) -> None:
        answer = await server.complete(**fields)
        assert answer.status_code == 400
        assert words in answer.json()["error"]["message"]

    lasting.play(scene)


def test_strict_requests_refuses_unknown_fields_and_names_the_nearest_known_one():
    async def scene(server: FakeServer) -> None:
        for fields, message in (
            ({"temprature": 1}, "the field 'temprature' is not known here. Did you mean temperature?"),
            ({"xyzzy": 1}, "the field 'xyzzy' is not known here"),
            ({"tempo": 1}, "the field 'tempo' is not known here"),
            ({"stream_options": {"include_usages": True}}, "Did you mean include_usage?"),
        ):
            answer = await server.complete(**fields)
            assert answer.status_code == 400
            assert message in answer.json()["error"]["message"]
        nested = await server.chat(messages=[USER | {"contents": "x"}])
        assert nested.json()["error"]["param"] == "messages.0.contents"
        with pytest.raises(openai.BadRequestError, match="min_token"):
            await server.openai.completions.create(model="fake", prompt="hi", extra_body={"min_tokenz": 1})
        harmless: list[dict[str, Any]] = [{"store": True, "metadata": {"a": "b"}, "user": "u"}, {"xyzzy": None}]
        for fields in harmless:
            assert (await server.complete(**fields)).status_code == 200

    serve(scene, settings(strict_requests=True))


PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"
THINKING = PLAIN + "|{{ reasoning_effort }}|{{ enable_thinking is not defined or enable_thinking }}"


@pytest.mark.parametrize(
    ("template", "fields", "prompt", "named"),
    [
        (THINKING, {"reasoning_effort": "low"}, "Hi|low|True", ""),
        (THINKING, {"reasoning_effort": "none"}, "Hi|none|False", ""),
        (
            THINKING,
            {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}},
            "Hi|none|True",
            "",
        ),
        (
            THINKING,
            {"chat_template_kwargs": {"enable_thinking": False, "x": 1}},
            "Hi||False",
            "chat_template_kwargs.x",
        ),
        (PLAIN, {"reasoning_effort": "none"}, "Hi", "reasoning_effort"),
    ],
)
def test_reasoning_effort_and_template_arguments_reach_the_template_or_are_named(template, fields, prompt, named):
    async def scene(server: FakeServer) -> None:
        answer = await server.chat(messages=[USER], **fields)
        assert answer.status_code == 200, answer.text
        assert bytes(server.client.added[0].prompt_token_ids).decode() == prompt
        assert answer.headers.get(HEADER, "") == named

    serve(scene, settings(chat_template=template))


def test_reasoning_that_comes_back_reaches_the_template_under_either_name():
    async def scene(server: FakeServer) -> None:
        for name in ("reasoning", "reasoning_content"):
            await server.chat(messages=[USER, ASSISTANT | {name: "because"}])
        first, second = server.client.added
        assert bytes(first.prompt_token_ids).decode() == "|because"
        assert second.prompt_token_ids == first.prompt_token_ids

    template = "{% for message in messages %}{{ message.reasoning_content }}{{ '|' if loop.first }}{% endfor %}"
    serve(scene, settings(chat_template=template))


def test_names_are_known_at_every_level_of_the_schema(lasting):
    """What ``/openapi.json`` says that there is, is not unknown."""

    async def scene(server: FakeServer) -> None:
        schema = (await server.http.get("/openapi.json")).json()["components"]["schemas"]["OpenaiChatRequest"]
        assert {"messages", "temperature", "reasoning_effort", "stream_options"} <= schema["properties"].keys()
        assert "user" not in schema["properties"]
        assert '"maximum": 128' in json.dumps(schema["properties"]["n"])

    lasting.play(scene)
