"""A real server's KV events: a subscriber knows what is cached, also when a worker and EngineCore were killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time

import httpx

from tests.kv_event_reader import AllBlocksCleared, Subscriber
from tests.running_server import RunningServer, free_port

PROMPT = "river " * 20


def flags(endpoint: str, replay_endpoint: str) -> list[str]:
    config = {"enable_kv_cache_events": True, "endpoint": endpoint, "replay_endpoint": replay_endpoint}
    return ["--kv-events-config", json.dumps(config)]


def ask(server: RunningServer, **fields) -> None:
    body = {"prompt": PROMPT, "max_tokens": 20, "seed": 1, **fields}
    assert httpx.post(f"{server.url}/v1/completions", json=body, timeout=30.0).status_code == 200


def prompt_tokens(server: RunningServer) -> list[int]:
    answer = httpx.post(f"{server.url}/tokenize", json={"prompt": PROMPT}, timeout=10.0)
    tokens: list[int] = answer.json()["tokens"]
    return tokens


def follow(router: Subscriber, condition) -> bool:
    """Whether it comes to be so with what is published."""
    deadline = time.monotonic() + 30.0
    while not condition() and time.monotonic() < deadline:
        router.take(0.1)
    return bool(condition())


def test_a_router_knows_what_is_cached_through_the_deaths_of_worker_and_engine():
    live, replay = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    with (
        RunningServer(*flags(live, replay)) as server,
        RunningServer(*flags(live, replay), wait=False) as other,
        contextlib.closing(Subscriber(live, replay)) as router,
        contextlib.closing(Subscriber(live)),  # who never reads
    ):
        source = httpx.get(f"{server.url}/kv_event_sources", timeout=10.0).json()["0"]
        assert (source["endpoint"], source["replay_endpoint"], source["publisher"]) == (live, replay, "zmq")
        assert "KV events, with the tokens that users send, go out at" in server.log()
        tokens = prompt_tokens(server)
        num_blocks = len(tokens) // 16
        assert num_blocks > 2
        assert follow(router, lambda: router.numbers)

        ask(server, cache_salt="somebody's own")
        ask(server)
        assert follow(router, lambda: router.index.num_known_blocks(tokens) == num_blocks)

        os.kill(server.by_title()["yeoul::Worker_0"], signal.SIGKILL)
        assert follow(router, lambda: not router.index.tokens)
        ask(server)
        assert follow(router, lambda: router.index.num_known_blocks(tokens) == num_blocks)

        last_number = router.numbers[-1]
        os.kill(server.by_title()["yeoul::EngineCore"], signal.SIGKILL)
        assert follow(router, lambda: router.numbers[-1] < last_number)
        router.index.tokens.clear()  # as routers do where numbers begin anew
        ask(server)
        found = router.replay(0)
        assert [number for number, _ in found] == list(range(len(found)))
        batches = [router.index.apply(payload) for _, payload in found]
        assert AllBlocksCleared() in [event for batch in batches for event in batch.events]
        assert router.index.num_known_blocks(tokens) == num_blocks
        assert "Traceback" not in server.log()
        assert other.wait_exit(30.0) == 2
        assert f"{live}: another process uses it" in other.log()
