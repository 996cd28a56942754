"""Three models on one port with room for two: how many of many mixed requests fail (none may), and what a switch takes.

``python -m benchmarks.models [--requests 10000] [--clients 256] [--turn 5] [MODEL ...]`` starts a server with three tables
(the fake model, or those named), and lets so many clients ask at random, each for one of the models by one of five routes,
some as streams. Answers are compared: the same request has the same text, whatever was switched between.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import httpx

from tests.running_server import RunningServer

_PROMPTS = ("A river is", "The sea is", "Once upon a time", "Numbers: 1, 2, 3,")
_MAX_TOKENS = 8


def request_of(name: str, rng: random.Random, *, has_chats: bool) -> tuple[str, dict[str, Any]]:
    """A path and its body; chats where the model has a template for them."""
    prompt, seed = rng.choice(_PROMPTS), rng.randrange(2)
    sampled = {"model": name, "max_tokens": _MAX_TOKENS, "seed": seed}
    options = {"num_predict": _MAX_TOKENS, "seed": seed}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/completions", {**sampled, "prompt": prompt, "stream": False}),
        ("/v1/completions", {**sampled, "prompt": prompt, "stream": True}),
        ("/v1/messages", {**sampled, "messages": [{"role": "user", "content": prompt}]}),
        ("/v1/embeddings", {"model": name, "input": prompt}),
        ("/api/generate", {"model": name, "prompt": prompt, "raw": True, "stream": False, "options": options}),
        ("/tokenize", {"model": name, "prompt": prompt}),
    ]
    return rng.choice([body for body in bodies if has_chats or body[0] != "/v1/messages"])


class Crowd:
    """So many clients, each with one request at a time, until all are answered."""

    def __init__(self, url: str, names: list[str], num_requests: int) -> None:
        self._url = url
        self._names = names
        self._left = num_requests
        self._has_chats: dict[str, bool] = {}
        self.failures: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.texts: dict[str, set[str]] = defaultdict(set)

    async def run(self, num_clients: int) -> None:
        """Returns when nothing is left to be asked."""
        async with httpx.AsyncClient(base_url=self._url, timeout=600.0, limits=httpx.Limits(max_connections=None)) as client:
            for name in self._names:
                chat = {"model": name, "messages": [{"role": "user", "content": "hi"}]}
                self._has_chats[name] = (await client.post("/apply-template", json=chat)).status_code == 200
            await asyncio.gather(*(self._ask(client, random.Random(seed)) for seed in range(num_clients)))

    async def _ask(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        while self._left > 0:
            self._left -= 1
            name = rng.choice(self._names)
            path, body = request_of(name, rng, has_chats=self._has_chats[name])
            began = time.perf_counter()
            try:
                answer = await client.post(path, json=body)
                if answer.status_code != 200:
                    self.failures[f"{path} {answer.status_code} {answer.text[:200]}"] += 1
                elif "error" in answer.text[:20] or (body.get("stream") and not answer.text.endswith("[DONE]\n\n")):
                    self.failures[f"{path}: {answer.text[-200:]}"] += 1
                elif path == "/v1/completions" and not body["stream"]:
                    self.texts[f"{name} {body['prompt']} {body['seed']}"].add(answer.json()["choices"][0]["text"])
            except httpx.HTTPError as error:
                self.failures[f"{path} {type(error).__name__}"] += 1
            self.seconds[name].append(time.perf_counter() - began)


def quantiles(values: list[float]) -> str:
    """The median, the 99th percentile and the most, in seconds."""
    ordered = sorted(values)
    return f"{statistics.median(ordered):.3f} {ordered[int(0.99 * (len(ordered) - 1))]:.2f} {ordered[-1]:.2f}"


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["fake"] * 3)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--turn", type=float, default=5.0)
    arguments = parser.parse_args()
    names = [f"model-{number}" for number in range(len(arguments.models))]
    with tempfile.TemporaryDirectory() as folder:
        tables = Path(folder, "models.toml")
        tables.write_text(
            "".join(f'[{name}]\nmodel = "{model}"\n' for name, model in zip(names, arguments.models, strict=True))
        )
        flags = ("--models-file", str(tables), "--models-max", "2", "--model-turn-seconds", str(arguments.turn))
        with RunningServer(*flags, model=None) as server:
            crowd = Crowd(server.url, names, arguments.requests)
            began = time.perf_counter()
            asyncio.run(crowd.run(arguments.clients))
            seconds = time.perf_counter() - began
            cards = httpx.get(f"{server.url}/v1/models").json()["data"]
            loads = [float(one) for one in re.findall(r"is loaded, after ([\d.]+) s", server.log())]
    num_failed = sum(crowd.failures.values())
    print(f"{arguments.requests} requests of {arguments.clients} clients in {seconds:.0f} s, {num_failed} failed")
    for failure, count in crowd.failures.most_common(10):
        print(f"  {count} x {failure}")
    num_unlike = sum(len(texts) > 1 for texts in crowd.texts.values())
    print(f"texts: {len(crowd.texts)} requests, {num_unlike} with more than one answer")
    print(f"switches: {len(loads)}; a load took (median, 99 %, most) {quantiles(loads)} s")
    for card in cards:
        name = card["id"]
        print(f"{name}: loaded {card['status']['num_loads']} times; its requests took {quantiles(crowd.seconds[name])} s")


if __name__ == "__main__":
    main()
