"""A thought ends at its request's budget: whole, streamed, behind a grammar, in another API, and across a worker's death."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.processes.forced_calls import ASK, serve
from tests.running_server import RunningServer

THINKS = {"chat_template_kwargs": {"enable_thinking": True}}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serve("--reasoning-parser", "qwen3", "--fake-step-seconds", "0.004") as running:
        yield running


def ask(server: RunningServer, budget: int, **fields: Any) -> Any:
    """A whole answer's message and usage."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        body = THINKS | {"thinking_token_budget": budget}
        answer = client.chat.completions.create(
            model="fake", messages=ASK, seed=3, extra_body=body, **({"max_tokens": 100} | fields)
        )
        return answer.choices[0].message.model_dump(), answer.usage


def stream(server: RunningServer, budget: int, kill: bool = False) -> tuple[str, str]:
    """The thought and the text of a streamed answer, whose worker may be killed within the thought."""
    thought, text = "", ""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        body = THINKS | {"thinking_token_budget": budget}
        for event in client.chat.completions.create(
            model="fake", messages=ASK, seed=3, max_tokens=100, stream=True, extra_body=body
        ):
            delta = event.choices[0].delta.model_dump() if event.choices else {}
            thought += delta.get("reasoning") or ""
            text += delta.get("content") or ""
            if kill and thought:
                os.kill(server.by_title()["yeoul::Worker_0"], signal.SIGKILL)
                kill = False
    return thought, text


def test_a_thought_has_as_many_tokens_as_it_may_and_the_answer_begins_behind_it(server):
    message, usage = ask(server, 40)
    free, _ = ask(server, 1000)
    assert not free["content"]
    assert 0 < len(message["reasoning"].encode()) <= 40
    assert free["reasoning"].startswith(message["reasoning"])
    assert usage.completion_tokens == 100
    assert len(message["content"].encode()) >= 100 - 40 - len("</think>")
    assert stream(server, 40) == (message["reasoning"], message["content"])
    assert stream(server, 40, kill=True) == (message["reasoning"], message["content"])


def test_no_token_may_be_thought(server):
    message, _ = ask(server, 0)
    assert not message.get("reasoning")
    assert message["content"]


def test_what_comes_behind_the_thought_fits_its_form(server):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "boolean"}}}
    message, _ = ask(server, 25, response_format=form)
    assert 0 < len(message["reasoning"].encode()) <= 25
    assert json.loads(message["content"]) in (True, False)


def test_anthropics_budget_is_the_same(server):
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        answer = client.messages.create(
            model="fake",
            max_tokens=100,
            messages=[{"role": "user", "content": ASK[0]["content"]}],
            thinking={"type": "enabled", "budget_tokens": 40},
        )
        thought, text = answer.content
        assert thought.type == "thinking"
        assert text.type == "text"
        assert 0 < len(thought.thinking.encode()) <= 40


def test_a_model_that_does_not_think_says_that_a_budget_has_no_effect():
    with RunningServer() as server:
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "thinking_token_budget": 4}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body)
        assert answer.status_code == 200
        assert answer.headers["yeoul-ignored-fields"] == "thinking_token_budget"
