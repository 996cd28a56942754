"""Leases as clients see them: a prefix is read from the cache after a flood, and usage tells what is kept.

The fake model has a token a byte, so it is known to the token what is kept: whole blocks of 16.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.processes.forced_calls import client_of, serve
from tests.running_server import RunningServer

FOR_5M: Any = {"cache_control": {"type": "ephemeral"}}
FOR_1H: Any = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
SYSTEM = "You know all about rivers. " * 8  # 216 tokens, which fit into a quarter of the cache
HEAD = len("<|im_start|>system\n")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serve("--reasoning-parser", "none", "--num-blocks-override", "64", "--max-model-len", "640") as running:
        yield running


def ask(server: RunningServer, question: str, **fields: Any) -> Any:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60.0) as client:
        messages = [{"role": "user", "content": question}]
        return client.messages.create(**{"model": "fake", "max_tokens": 4, "messages": messages, **fields}).usage


def usage_of(answer: Any) -> Any:
    """What an answer of OpenAI's tells of its prompt."""
    usage = answer.usage.model_dump()
    return usage.get("prompt_tokens_details") or usage["input_tokens_details"]


def flood(server: RunningServer) -> None:
    """Ten prompts one after the other, each half of the cache."""
    for number in range(10):
        body = {"prompt": f"{number} {os.urandom(8).hex()}" + "x" * 480, "max_tokens": 4}
        assert httpx.post(f"{server.url}/v1/completions", json=body, timeout=60.0).status_code == 200


def check_sum(server: RunningServer, usage: Any, question: str, **fields: Any) -> None:
    messages: Any = [{"role": "user", "content": question}]
    with anthropic.Anthropic(base_url=server.url, api_key="none") as client:
        counted = client.messages.count_tokens(model="fake", messages=messages, **fields).input_tokens
    assert usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens == counted
    created = usage.cache_creation
    assert created.ephemeral_5m_input_tokens + created.ephemeral_1h_input_tokens == usage.cache_creation_input_tokens


def test_a_marked_prefix_is_read_after_a_flood_and_an_unmarked_one_is_not(server):
    unmarked = [{"type": "text", "text": SYSTEM}]
    assert ask(server, "How long is the Rhine?", system=unmarked).cache_creation_input_tokens == 0
    flood(server)
    assert ask(server, "And the Elbe?", system=unmarked).cache_read_input_tokens == 0
    flood(server)
    marked: Any = [{"type": "text", "text": SYSTEM, **FOR_5M}, {"type": "text", "text": "Be brief."}]
    kept = (HEAD + len(SYSTEM)) // 16 * 16
    first = ask(server, "How long is the Rhine?", system=marked)
    check_sum(server, first, "How long is the Rhine?", system=marked)
    assert (first.cache_creation_input_tokens, first.cache_read_input_tokens) == (kept, 0)
    assert first.cache_creation.ephemeral_5m_input_tokens == kept
    assert server.metrics()["yeoul:num_leased_blocks"] == kept // 16
    flood(server)
    second = ask(server, "And the Elbe?", system=marked)
    check_sum(server, second, "And the Elbe?", system=marked)
    assert (second.cache_creation_input_tokens, second.cache_read_input_tokens) == (0, kept)


def test_two_times_are_told_apart_and_both_in_a_stream(server):
    system: Any = [{"type": "text", "text": "z" * 100, **FOR_1H}]
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "How deep is the Rhine at Bingen?", **FOR_5M}]}]
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        stream = client.messages.create(model="fake", max_tokens=4, messages=messages, system=system, stream=True)
        events = list(stream)
    begun: Any = events[0]
    usage = begun.message.usage
    assert usage.cache_creation.ephemeral_1h_input_tokens == HEAD + 100 - usage.cache_read_input_tokens
    assert usage.cache_creation.ephemeral_5m_input_tokens > 0
    assert usage.cache_creation_input_tokens % 16 == 0


def test_what_is_more_than_the_share_is_not_promised(server):
    usage = ask(server, "x", system=[{"type": "text", "text": "y" * 500, **FOR_5M}])
    assert usage.cache_creation_input_tokens + usage.cache_read_input_tokens == 16 * 16
    assert server.metrics()["yeoul:num_leased_blocks"] == 16


def test_a_key_keeps_a_prompt_of_chats_and_responses(server):
    with client_of(server) as client:
        chat: Any = {"model": "fake", "messages": [{"role": "user", "content": SYSTEM[:90]}], "max_tokens": 4}
        response: Any = {"model": "fake", "input": SYSTEM[50:140], "max_output_tokens": 4}
        for more, is_kept in (({}, False), ({"prompt_cache_key": "me", "prompt_cache_retention": "24h"}, True)):
            flood(server)
            written = [
                usage_of(client.chat.completions.create(**chat, **more))["cache_write_tokens"],
                usage_of(client.responses.create(**response, **more))["cache_write_tokens"],
            ]
            assert [number > 90 and number % 16 == 0 for number in written] == [is_kept] * 2
            assert is_kept or written == [0, 0]
            flood(server)
            *_, last = client.chat.completions.create(**chat, **more, stream=True, stream_options={"include_usage": True})
            for usage in (usage_of(last), usage_of(client.responses.create(**response, **more))):
                assert (usage["cached_tokens"] > 90) == is_kept
                assert usage["cache_write_tokens"] == 0
        with pytest.raises(openai.BadRequestError, match="prompt_cache_retention"):
            client.chat.completions.create(**chat, extra_body={"prompt_cache_retention": "for ever"})


def test_mistakes_are_told_as_anthropic_tells_them(server):
    for blocks, words in (
        ([{"type": "text", "text": str(number), **FOR_5M} for number in range(5)], "a maximum of 4 blocks"),
        ([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "2h"}}], "ttl"),
    ):
        with pytest.raises(anthropic.BadRequestError) as caught:
            ask(server, "x", system=blocks)
        body: Any = caught.value.body
        assert body["error"]["type"] == "invalid_request_error"
        assert words in body["error"]["message"]


def test_an_engine_that_takes_the_place_of_a_dead_one_has_no_leases_and_takes_new_ones(server):
    marked: Any = [{"type": "text", "text": SYSTEM.upper(), **FOR_5M}, {"type": "text", "text": "Be brief."}]
    kept = (HEAD + len(SYSTEM)) // 16 * 16
    assert ask(server, "How long?", system=marked).cache_creation_input_tokens > 0
    os.kill(server.by_title()["yeoul::EngineCore"], signal.SIGKILL)
    again = ask(server, "How long?", system=marked)
    assert (again.cache_read_input_tokens, again.cache_creation_input_tokens) == (0, kept)
    flood(server)
    assert ask(server, "How long?", system=marked).cache_read_input_tokens == kept
