"""A real server's KV events: a subscriber knows what is cached, also when a worker and EngineCore were killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time

import httpx
import msgspec

from tests.kv_event_reader import AllBlocksCleared, KVEventBatch, Subscriber
from tests.running_server import RunningServer, free_port, free_port_pair

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


def follow(*routers_and_condition) -> bool:
    """Whether it comes to be so with what is published."""
    *routers, condition = routers_and_condition
    deadline = time.monotonic() + 30.0
    while not condition() and time.monotonic() < deadline:
        for router in routers:
            router.take(0.1)
    return bool(condition())


def test_a_router_hears_each_of_several_engines_and_the_successor_of_one_that_died():
    live, replay = free_port_pair(), free_port_pair()
    places = [(f"tcp://127.0.0.1:{live + rank}", f"tcp://127.0.0.1:{replay + rank}") for rank in range(2)]
    with (
        RunningServer(*flags(*places[0]), "--data-parallel-size", "2") as server,
        contextlib.closing(Subscriber(*places[0])) as first,
        contextlib.closing(Subscriber(*places[1])) as second,
    ):
        sources = httpx.get(f"{server.url}/kv_event_sources", timeout=10.0).json()
        assert [(sources[rank]["endpoint"], sources[rank]["replay_endpoint"]) for rank in "01"] == places
        routers, tokens = (first, second), prompt_tokens(server)
        num_blocks = len(tokens) // 16
        for router in routers:
            assert follow(router, lambda router=router: router.numbers)

        def num_known() -> list[int]:
            return [router.index.num_known_blocks(tokens) for router in routers]

        ask(server)
        assert follow(*routers, lambda: sorted(num_known()) == [0, num_blocks])
        rank = num_known().index(num_blocks)
        last_number = routers[rank].numbers[-1]
        os.kill(server.by_title()[f"yeoul::EngineCore_{rank}"], signal.SIGKILL)
        assert follow(*routers, lambda: routers[rank].numbers[-1] < last_number)
        for router, expected in zip(routers, range(2), strict=True):
            batches = [msgspec.msgpack.decode(payload, type=KVEventBatch) for _, payload in router.replay(0)]
            assert {batch.data_parallel_rank for batch in batches} == {expected}


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

        assert other.wait_exit(60.0) == 2  # before the address is free for a moment
        assert f"{live}: another process uses it" in other.log()
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
