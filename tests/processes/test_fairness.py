"""A long prompt among streams: it is computed in pieces, so that no stream stops for longer than the setting says."""

from __future__ import annotations

import asyncio
import itertools
import json
import time

import pytest

from tests.running_server import RunningServer

NUM_STREAMS = 4
LONG_PROMPT = "river " * 150  # 900 tokens of a byte, a millisecond each


async def arrivals(port: int, prompt: str, max_tokens: int) -> list[float]:
    """When each event of a streamed completion came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"model": "fake", "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "stream": True})
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    )
    writer.write(f"{head}\r\nconnection: close\r\n\r\n{body}".encode())
    times = []
    while line := await asyncio.wait_for(reader.readline(), 60.0):
        if line.startswith(b"data: {"):
            times.append(time.monotonic())
    writer.close()
    return times


async def longest_pause(port: int) -> tuple[float, float]:
    """Seconds between two tokens of a stream while a long prompt comes, at most; seconds until the prompt's first token."""
    streams = [asyncio.create_task(arrivals(port, f"{number} river", 150)) for number in range(NUM_STREAMS)]
    await asyncio.sleep(0.5)
    start = time.monotonic()
    first_token = (await arrivals(port, LONG_PROMPT, 1))[0] - start
    pauses = [
        later - earlier
        for times in await asyncio.gather(*streams)
        for earlier, later in itertools.pairwise(times)
        if later > start and earlier < start + first_token
    ]
    return max(pauses), first_token


@pytest.mark.parametrize(("limit", "least", "most"), [("100", 0.05, 0.4), ("0", 0.8, 5.0)], ids=["bounded", "unbounded"])
def test_a_long_prompt_stops_nobody_for_longer_than_it_may(limit, least, most):
    arguments = ("--fake-step-seconds", "0.004", "--fake-token-seconds", "0.001", "--max-model-len", "2048")
    with RunningServer(*arguments, "--max-decode-pause-milliseconds", limit, "--no-enable-prefix-caching") as server:
        # A machine that stands still adds to a pause: the shortest of three is the server's own.
        pause, first_token = min(asyncio.run(longest_pause(server.port)) for _ in range(3))
    assert least < pause < most
    assert first_token < 5.0
