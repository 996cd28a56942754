"""Two hundred streams at a time, a third of them cut off midway: nothing lost, nothing kept, health answers, idle is idle."""

from __future__ import annotations

import asyncio
import json
import random
import time

import pytest

from tests.health_probe import HealthProbe
from tests.running_server import RunningServer, cpu_seconds, num_descriptors, pss_bytes

NUM_STREAMS = 200


@pytest.fixture(scope="module")
def server():
    with RunningServer("--fake-step-seconds", "0.02", "--max-model-len", "2048") as running:
        yield running


async def stream(port: int, prompt: str, max_tokens: int, num_events_until_abort: int | None) -> int:
    """Events of one streamed completion over a plain socket; closes it early where told to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(
        {"model": "fake", "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "stream": True, "temperature": 0}
    )
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    writer.write(f"{head}\r\nconnection: close\r\n\r\n{body}".encode())
    num_tokens = 0
    try:
        while line := await asyncio.wait_for(reader.readline(), 60.0):
            if not line.startswith(b"data: "):
                continue
            if line == b"data: [DONE]\n":
                return num_tokens
            choice = json.loads(line[6:])["choices"][0]
            num_tokens += len(choice["text"])
            if num_events_until_abort is not None and num_tokens >= num_events_until_abort:
                return num_tokens
    finally:
        writer.close()
    raise AssertionError(f"the stream ended after {num_tokens} tokens without [DONE]")


async def one_round(port: int, seed: int) -> None:
    chance = random.Random(seed)
    wanted = []
    for number in range(NUM_STREAMS):
        max_tokens = chance.randint(10, 60)
        abort_at = chance.randint(1, max_tokens // 2) if number % 3 == 0 else None
        prompt = f"{number} " + "river " * chance.randint(1, 150)
        wanted.append((max_tokens, abort_at, stream(port, prompt, max_tokens, abort_at)))
    results = await asyncio.gather(*(streaming for _, _, streaming in wanted))
    for (max_tokens, abort_at, _), num_tokens in zip(wanted, results, strict=True):
        if abort_at is None:
            assert num_tokens == max_tokens


def settle(server: RunningServer) -> dict[str, float]:
    """Metrics once nothing runs and every connection is closed."""
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        metrics = server.metrics()
        if metrics["yeoul:num_requests_running"] == metrics["yeoul:num_requests_waiting"] == 0:
            time.sleep(0.3)
            return server.metrics()
        time.sleep(0.05)
    raise AssertionError(f"requests are still there: {metrics}")


def test_three_rounds_of_streams_lose_nothing_and_leave_nothing(server):
    asyncio.run(one_round(server.port, seed=1))
    settle(server)
    descriptors, memory = [], []
    for seed in (2, 3):
        with HealthProbe(server.port) as probe:
            asyncio.run(one_round(server.port, seed))
        assert probe.num_answers > 50
        assert probe.p99_milliseconds < 20.0
        metrics = settle(server)
        assert metrics["yeoul:kv_cache_usage_ratio"] == 0
        descriptors.append([num_descriptors(pid) for pid in server.tree()])
        memory.append(pss_bytes(server.tree()))
    assert descriptors[0] == descriptors[1]
    assert memory[1] <= memory[0] * 1.02


def test_an_idle_server_uses_under_one_percent_of_a_core(server):
    settle(server)
    pids = server.tree()
    time.sleep(0.5)
    before, start = cpu_seconds(pids), time.monotonic()
    time.sleep(10.0)
    assert (cpu_seconds(pids) - before) / (time.monotonic() - start) < 0.01
