"""What others notice of a batch, and what a batch makes of gaps: live latency with and without one, and its speed alone.

``python -m benchmarks.batches [MODEL] [--requests 500] [--seconds 30] [--rounds 3] [--rate 1.0]`` takes rounds on one server,
in turns: streams that come as a Poisson process, so many a second, with nothing else; and the same streams while a batch of
so many requests runs. Then the same requests come all at once as live ones, and as a batch with nothing beside it. A row
tells the times to the first token and from token to token, p50 and p99 of all rounds; the last ones tokens a second. Further
flags go to ``yeoul serve``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import time

import httpx

from benchmarks.fairness import WORDS, Stream
from tests.running_server import RunningServer

NUM_PROMPT_WORDS = 96
NUM_LIVE_TOKENS = 48
NUM_BATCH_TOKENS = 128


def prompt(chance: random.Random) -> str:
    """Plain words, no two prompts alike."""
    return " ".join(chance.choices(WORDS.split(), k=NUM_PROMPT_WORDS))


class Latencies:
    """Milliseconds of all streams of a kind."""

    def __init__(self) -> None:
        self.first: list[float] = []
        self.between: list[float] = []

    def row(self) -> list[float]:
        """First token p50 and p99, between tokens p50 and p99."""
        return [_quantile(values, share) for values in (self.first, self.between) for share in (0.5, 0.99)]


async def live(port: int, rate: float, seconds: float, seed: int, into: Latencies) -> None:
    """Streams at random moments, the same for the same seed."""
    chance = random.Random(seed)
    tasks = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        await asyncio.sleep(chance.expovariate(rate))
        tasks.append(asyncio.create_task(_one(port, prompt(chance), into)))
    await asyncio.gather(*tasks)


async def _one(port: int, text: str, into: Latencies) -> None:
    stream = Stream(port, text, NUM_LIVE_TOKENS)
    start = time.perf_counter()
    await stream.run()
    into.first.append(1e3 * (stream.times[0] - start))
    into.between += [1e3 * (later - earlier) for earlier, later in itertools.pairwise(stream.times)]


class Batch:
    """A batch on a server; ``begin`` returns when its first answer is there."""

    def __init__(self, server: RunningServer, num_requests: int, seed: int) -> None:
        self._http = httpx.Client(base_url=server.url, timeout=60)
        chance = random.Random(seed)
        bodies = [body_of(chance) for _ in range(num_requests)]
        self._lines = "".join(
            json.dumps({"custom_id": str(number), "method": "POST", "url": "/v1/completions", "body": body}) + "\n"
            for number, body in enumerate(bodies)
        )

    def begin(self) -> None:
        """Uploads its file and makes it."""
        files = {"file": ("in.jsonl", self._lines)}
        file = self._http.post("/v1/files", files=files, data={"purpose": "batch"}).raise_for_status().json()
        fields = {"input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "24h"}
        self._id = self._http.post("/v1/batches", json=fields).raise_for_status().json()["id"]
        while self.num_answered() == 0:
            time.sleep(0.02)

    def num_answered(self) -> int:
        """Requests that are answered."""
        return int(self._state()["request_counts"]["completed"])

    def wait(self) -> None:
        """Until it is complete."""
        while self._state()["status"] != "completed":
            time.sleep(0.02)

    def end(self) -> None:
        """Cancels what is left of it."""
        if self._http.post(f"/v1/batches/{self._id}/cancel").status_code == 200:
            while self._state()["status"] != "cancelled":
                time.sleep(0.02)

    def _state(self) -> dict:
        return dict(self._http.get(f"/v1/batches/{self._id}").raise_for_status().json())


def body_of(chance: random.Random) -> dict:
    """A request of the batch."""
    return {"model": "m", "prompt": prompt(chance), "max_tokens": NUM_BATCH_TOKENS, "temperature": 0, "ignore_eos": True}


async def all_at_once(port: int, num_requests: int, seed: int) -> float:
    """The requests of a batch as live ones: seconds."""
    chance = random.Random(seed)
    limits = httpx.Limits(max_connections=num_requests)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600, limits=limits) as http:
        start = time.perf_counter()
        posts = [http.post("/v1/completions", json=body_of(chance)) for _ in range(num_requests)]
        for answer in await asyncio.gather(*posts):
            answer.raise_for_status()
        return time.perf_counter() - start


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2-135m-instruct")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1.0)
    arguments, flags = parser.parse_known_args()
    alone, beside = Latencies(), Latencies()
    with RunningServer("--served-model-name", "m", *flags, model=arguments.model, timeout_seconds=300) as server:
        asyncio.run(live(server.port, arguments.rate, 3.0, 0, Latencies()))  # warm-up, not counted
        num_answered = 0
        for seed in range(1, arguments.rounds + 1):
            asyncio.run(live(server.port, arguments.rate, arguments.seconds, seed, alone))
            batch = Batch(server, arguments.requests, seed)
            batch.begin()
            before = batch.num_answered()
            asyncio.run(live(server.port, arguments.rate, arguments.seconds, seed, beside))
            num_answered += batch.num_answered() - before
            batch.end()
        print("live streams | first token ms p50, p99 | between tokens ms p50, p99")
        for name, latencies in (("alone", alone), ("beside a batch", beside)):
            first, first_p99, between, between_p99 = latencies.row()
            print(f"{name:>14} | {first:.1f}, {first_p99:.1f} | {between:.2f}, {between_p99:.2f}")
        ratios = [later / earlier for earlier, later in zip(alone.row(), beside.row(), strict=True)]
        print(f"{'ratio':>14} | {ratios[0]:.2f}, {ratios[1]:.2f} | {ratios[2]:.2f}, {ratios[3]:.2f}")
        rate = num_answered * NUM_BATCH_TOKENS / (arguments.seconds * arguments.rounds)
        print(f"the batch meanwhile: {rate:.0f} tokens/s")
        plain = asyncio.run(all_at_once(server.port, arguments.requests, 100))
        batch = Batch(server, arguments.requests, 101)
        start = time.perf_counter()
        batch.begin()
        batch.wait()
        gaps = time.perf_counter() - start
        num_tokens = arguments.requests * NUM_BATCH_TOKENS
        print(
            f"all at once: {num_tokens / plain:.0f} tokens/s; as a batch alone: {num_tokens / gaps:.0f} ({plain / gaps:.2f})"
        )


if __name__ == "__main__":
    main()
