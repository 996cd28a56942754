"""Leases with a real model in a small cache: an agent's second turn reads its prefix after a flood, and no answer changes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx
import pytest

from tests.running_server import RunningServer

FLAGS = ("--num-blocks-override", "96", "--max-model-len", "1024")
SYSTEM = "You keep the books of a small harbour: ships, their loads, and who has paid for which berth. " * 12
CHAT: dict[str, Any] = {
    "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Which ship came first?"}],
    "max_tokens": 24,
    "seed": 3,
    "temperature": 1,
    "logprobs": True,
    "top_logprobs": 3,
}
LEASE = {"prompt_cache_key": "harbour"}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(*FLAGS, model="smollm2-135m-instruct", timeout_seconds=300.0) as running:
        yield running


def post(server: RunningServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}{path}", json=body, timeout=240.0)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def flood(server: RunningServer, seed: int) -> None:
    """Six prompts one after the other, that fill the cache twice."""
    numbers = random.Random(seed)
    for _ in range(6):
        prompt = [numbers.randrange(100, 40_000) for _ in range(500)]
        post(server, "/v1/completions", {"prompt": prompt, "max_tokens": 2, "ignore_eos": True})


def ask(server: RunningServer, **more: Any) -> tuple[Any, int]:
    found = post(server, "/v1/chat/completions", {**CHAT, **more})
    return found["choices"], found["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_an_answer_is_the_same_with_and_without_a_lease_alone_and_in_a_crowd(server):
    alone, num_cached = ask(server)
    assert num_cached == 0
    flood(server, 1)
    assert ask(server, **LEASE) == (alone, 0)
    flood(server, 2)
    leased, num_cached = ask(server, **LEASE)
    assert leased == alone
    assert num_cached > 200
    others = [{"messages": [{"role": "user", "content": f"{number} ships?"}], "max_tokens": 20} for number in range(12)]
    with ThreadPoolExecutor(16) as pool:
        crowd = [pool.submit(post, server, "/v1/chat/completions", {**other, **LEASE}) for other in others]
        asked = [pool.submit(ask, server, **more) for more in (LEASE, {}, LEASE)]
        assert all(one.result() for one in crowd)
        assert [one.result()[0] for one in asked] == [alone] * 3


@pytest.mark.parametrize("is_marked", [True, False])
def test_the_second_turn_of_an_agent_reads_its_prefix_after_a_flood_if_it_was_marked(server, is_marked):
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}} if is_marked else {}
    system: Any = [{"type": "text", "text": f"Day {3 + is_marked}. {SYSTEM}", **mark}]
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=240.0) as client:
        model = client.models.list().data[0].id

        def turn(*texts: str) -> Any:
            roles = ("user", "assistant", "user")
            messages: Any = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
            return client.messages.create(model=model, max_tokens=8, messages=messages, system=system)

        first = turn("Which ship came first?")
        flood(server, 7 + is_marked)
        second = turn("Which ship came first?", first.content[0].text, "And then?")
    created = first.usage.cache_creation_input_tokens
    if is_marked:
        assert created > 200
        assert first.usage.cache_creation.ephemeral_1h_input_tokens == created
        assert second.usage.cache_read_input_tokens >= created
    else:
        assert (created, second.usage.cache_read_input_tokens) == (0, 0)
