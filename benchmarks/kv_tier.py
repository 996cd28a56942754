"""Measures what kept blocks are worth, and what keeping them costs: a chat's second turn after a restart, and steps.

``python -m benchmarks.kv_tier --model MODEL`` starts servers of its own on a folder of its own. ``--steps`` measures steps.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

YEOUL = Path(sys.executable).parent / "yeoul"
PORT = 18431
URL = f"http://127.0.0.1:{PORT}"
WORDS = ["the", "river", "runs", "fast", "where", "stones", "lie", "under", "water", "and", "nobody", "hears", "the", "rain"]


class Server:
    """``yeoul serve`` with these flags, until the end of the block; ``seconds`` is what its start took."""

    def __init__(self, model: str | None, flags: list[str]) -> None:
        self._command = [
            str(YEOUL),
            "serve",
            *([model] if model else []),
            "--port",
            str(PORT),
            "--log-level",
            "warning",
            *flags,
        ]

    def __enter__(self) -> Server:
        began = time.monotonic()
        self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while True:
            try:
                if httpx.get(f"{URL}/ready", timeout=5.0).status_code == 200:
                    break
            except httpx.TransportError:
                if self.process.poll() is not None:
                    raise
            time.sleep(0.01)
        self.seconds = time.monotonic() - began
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)


def metric(name: str) -> float:
    """The value of a metric that has no labels."""
    lines = httpx.get(f"{URL}/metrics", timeout=30.0).text.splitlines()
    return float(next(line.rsplit(" ", 1)[1] for line in lines if line.startswith(f"yeoul:{name} ")))


def wait_until_stored(num_blocks: int) -> float:
    """How long it takes until so many are kept."""
    began = time.monotonic()
    while metric("num_kv_tier_blocks") < num_blocks:
        time.sleep(0.01)
    return time.monotonic() - began


def ask(prompt: list[int], num_tokens: int = 1) -> tuple[float, int, Any]:
    """Seconds of the answer, tokens that were not computed, and the answer with its log probabilities."""
    body = {"prompt": prompt, "max_tokens": num_tokens, "temperature": 0, "logprobs": 1, "ignore_eos": True}
    began = time.monotonic()
    answer = httpx.post(f"{URL}/v1/completions", json=body, timeout=3600.0).raise_for_status().json()
    seconds = time.monotonic() - began
    details = answer["usage"].get("prompt_tokens_details") or {}
    return seconds, details.get("cached_tokens", 0), answer["choices"][0]


def tokens_of(text: str) -> list[int]:
    """As the server counts them."""
    tokens: list[int] = httpx.post(f"{URL}/tokenize", json={"prompt": text}, timeout=60.0).raise_for_status().json()["tokens"]
    return tokens


def turns(model: str | None, num_tokens: int, flags: list[str]) -> None:
    """Turn 1, a restart, turn 2 from below, and turn 2 computed anew."""
    chooser = random.Random(3)
    with tempfile.TemporaryDirectory(prefix="yeoul-kv-tier-") as folder:
        keeping = ["--data-dir", folder, "--kv-disk-bytes", "16GiB", *flags]
        with Server(model, keeping) as server:
            prompt = tokens_of(" ".join(chooser.choice(WORDS) for _ in range(num_tokens)))[: num_tokens - 300]
            seconds, _, _ = ask(prompt)
            print(f"start {server.seconds:.2f} s; turn 1: {len(prompt)} tokens computed in {seconds:.2f} s")
            print(f"stored {wait_until_stored(len(prompt) // 16) * 1000:.0f} ms after the answer")
            more = prompt + tokens_of(" ".join(chooser.choice(WORDS) for _ in range(100)))
        size = sum(path.stat().st_blocks * 512 for path in Path(folder, "kv").iterdir())
        print(f"on the disk: {size / 1e6:.0f} MB")
        answers = []
        for kept in (True, False):
            with Server(model, keeping if kept else flags) as server:
                seconds, cached, answer = ask(more)
                answers.append(answer)
                name = "from the disk" if kept else "computed anew"
                print(f"start {server.seconds:.2f} s; turn 2 {name}: {len(more)} tokens, {cached} cached, {seconds:.2f} s")
        assert answers[0] == answers[1], "the answers differ"
        print("both answers and their log probabilities are equal")


def steps(model: str | None, flags: list[str], rounds: int) -> None:
    """A prompt's tokens a second, and the time of a token: without a tier, and with one that stores all of it."""
    with tempfile.TemporaryDirectory(prefix="yeoul-kv-tier-") as folder:
        kinds = {"off": [], "on": ["--data-dir", folder, "--kv-disk-bytes", "16GiB"]}
        for number in range(rounds):
            for name, more in kinds.items():
                with Server(model, [*flags, *more]):
                    chooser = random.Random(number if name == "on" else -1 - number)
                    prompts = [tokens_of(" ".join(chooser.choice(WORDS) for _ in range(2000)))[:1800] for _ in range(3)]
                    rates = [len(prompt) / ask(prompt)[0] for prompt in prompts]
                    decode = []
                    for prompt in prompts:
                        short, long = ask(prompt[:512], 8)[0], ask(prompt[:512], 264)[0]
                        decode.append((long - short) / 256 * 1000)
                    print(
                        f"round {number} {name}: prompts {statistics.median(rates):.0f} tokens/s; "
                        f"a token {statistics.median(decode):.3f} ms"
                    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--steps", type=int, default=0, help="rounds")
    arguments, flags = parser.parse_known_args()
    if arguments.steps:
        steps(arguments.model, flags, arguments.steps)
    else:
        turns(arguments.model, arguments.tokens, flags)


if __name__ == "__main__":
    main()
