"""More comes than can be carried: a crowd with one API key holds up nobody else's, deadlines hold, nothing is left over."""

from __future__ import annotations

import asyncio
import time

import httpx

from tests.running_server import RunningServer

FEW_AT_A_TIME = ("--max-num-seqs", "2", "--fake-step-seconds", "0.005")


async def complete(client: httpx.AsyncClient, key: str, **fields: object) -> tuple[int, float]:
    """The status, and when the answer was complete."""
    body = {"prompt": "river", "max_tokens": 20, "ignore_eos": True, **fields}
    answer = await client.post("/v1/completions", json=body, headers={"authorization": f"Bearer {key}"})
    return answer.status_code, time.monotonic()


def test_two_requests_do_not_wait_behind_another_keys_forty():
    async def scene(url: str) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        async with httpx.AsyncClient(base_url=url, timeout=60.0) as client:
            many = [asyncio.create_task(complete(client, "many")) for _ in range(40)]
            await asyncio.wait(many, return_when=asyncio.FIRST_COMPLETED)
            few = [asyncio.create_task(complete(client, "few")) for _ in range(2)]
            return await asyncio.gather(*many), await asyncio.gather(*few)

    with RunningServer(*FEW_AT_A_TIME, "--api-key", "many", "--api-key", "few") as server:
        many, few = asyncio.run(scene(server.url))
    assert {status for status, _ in (*many, *few)} == {200}
    last_of_few = max(moment for _, moment in few)
    assert sum(moment > last_of_few for _, moment in many) >= 25


def test_who_cannot_be_in_time_is_refused_or_cut_off_and_the_others_are_answered():
    async def scene(url: str) -> list[tuple[int, float]]:
        async with httpx.AsyncClient(base_url=url, timeout=60.0) as client:
            start = time.monotonic()
            await asyncio.gather(*(complete(client, "any") for _ in range(8)))  # it learns what requests take
            seconds = time.monotonic() - start
            hurried = [asyncio.create_task(complete(client, "any", deadline_seconds=2 * seconds)) for _ in range(80)]
            await asyncio.sleep(seconds)
            hurried += [asyncio.create_task(complete(client, "any", deadline_seconds=seconds)) for _ in range(20)]
            return await asyncio.gather(*hurried)

    with RunningServer(*FEW_AT_A_TIME) as server:
        statuses = [status for status, _ in asyncio.run(scene(server.url))]
        assert set(statuses) <= {200, 408, 429}
        assert statuses.count(200) >= 5
        assert 429 in statuses[80:], "who came late would have waited for too long"
        samples = server.metrics()
        assert samples["yeoul:num_requests_running"] == samples["yeoul:num_requests_waiting"] == 0
        assert samples["yeoul:kv_cache_usage_ratio"] == 0
        assert httpx.post(f"{server.url}/v1/completions", json={"prompt": "river", "max_tokens": 2}).status_code == 200
