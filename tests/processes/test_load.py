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
    """One streamed completion over a plain socket: its tokens by the usage in its last event; 0 if it was cut off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = {"model": "fake", "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "stream": True}
    body = json.dumps(request | {"stream_options": {"include_usage": True}})
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    )
    writer.write(f"{head}\r\nconnection: close\r\n\r\n{body}".encode())
    num_events = num_tokens = 0
    try:
        while line := await asyncio.wait_for(reader.readline(), 60.0):
            if line == b"data: [DONE]\n":
                return num_tokens
            if not line.startswith(b"data: "):
                continue
            num_events += 1
            if num_events == num_events_until_abort:
                return 0
            if (usage := json.loads(line[6:]).get("usage")) is not None:
                num_tokens = usage["completion_tokens"]
    finally:
        writer.close()
    raise AssertionError(f"the stream ended after {num_events} events without [DONE]")


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
        assert num_tokens == (max_tokens if abort_at is None else 0)


def descriptors(server: RunningServer) -> list[int]:
    """Open descriptors of each process."""
    return [num_descriptors(pid) for pid in server.tree()]


def settle(server: RunningServer) -> dict[str, float]:
    """Metrics once nothing runs."""
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        metrics = server.metrics()
        if metrics["yeoul:num_requests_running"] == metrics["yeoul:num_requests_waiting"] == 0:
            return metrics
        time.sleep(0.05)
    raise AssertionError(f"requests are still there: {metrics}")


def wait_for_descriptors(server: RunningServer, wanted: list[int]) -> None:
    """A connection that its client has closed is closed here a moment later."""
    deadline = time.monotonic() + 5.0
    while descriptors(server) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert descriptors(server) == wanted


@pytest.mark.parametrize("num_rounds", [12, pytest.param(24, marks=pytest.mark.long)])
def test_rounds_of_streams_lose_nothing_and_leave_nothing(server, num_rounds):
    time.sleep(0.2)  # the connections that asked whether the server is ready are closed by now
    before, memory, slow_rounds, num_answers = descriptors(server), [], 0, 0
    for seed in range(1, num_rounds + 1):
        with HealthProbe(server.port) as probe:
            asyncio.run(one_round(server.port, seed))
        num_answers += probe.num_answers
        # The answer needs the server and the probe to be woken, each as late as the machine's other work makes it.
        slow_rounds += probe.p99_milliseconds > 20.0 + 3 * probe.p99_late_milliseconds
        assert settle(server)["yeoul:kv_cache_usage_ratio"] == 0
        wait_for_descriptors(server, before)
        memory.append(pss_bytes(server.tree()))
    # A machine that stands still for a moment spoils one round; a server that is slow spoils all.
    assert slow_rounds < num_rounds / 2
    assert num_answers > 50 * num_rounds  # of all rounds: a probe that began late has few in one
    # The first half takes what a crowd needs at once, in pieces of a megabyte or two; further rounds add nothing.
    assert memory[-1] <= memory[num_rounds // 2] * 1.03, memory


def test_an_idle_server_uses_under_one_percent_of_a_core(server):
    settle(server)
    pids = server.tree()
    shares: list[float] = []
    while len(shares) < 3 and min(shares, default=1.0) >= 0.01:  # what a crowd leaves behind may take a window to clear away
        time.sleep(0.5)
        before, start = cpu_seconds(pids), time.monotonic()
        time.sleep(10.0)
        shares.append((cpu_seconds(pids) - before) / (time.monotonic() - start))
    assert min(shares) < 0.01, shares
