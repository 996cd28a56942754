"""Measures what streams feel of others' long prompts, and of a worker's death, with one engine and with two, in turns.

``python -m benchmarks.several_engines prompts`` or ``death``, with ``--rounds`` and ``--model``. Each server is a new one; on
a machine that others use as well, compare within a round. Tokens are compared: they have to be the same with all.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import statistics
import tempfile
import threading
import time

import httpx

from tests.running_server import RunningServer
from yeoul.model_files.registry_models import DEFAULT_MODEL

ONE = ["--kv-cache-memory-bytes", "400MiB"]
TWO = [*ONE, "--data-parallel-size", "2"]
KEPT = ["--kv-disk-bytes", "4GiB", "--data-dir"]  # and a folder
SETUPS = {
    "one engine": ONE,
    "one engine, pause 20 ms": [*ONE, "--max-decode-pause-milliseconds", "20"],
    "two engines": TWO,
    "two engines, pause 20 ms": [*TWO, "--max-decode-pause-milliseconds", "20"],
    "prefill + decode": [*TWO, "--num-prefill-engines", "1", *KEPT],
}


class Stream(threading.Thread):
    """One request, and when each of its tokens came. ``has_begun`` is set after 20 of them."""

    def __init__(self, url: str, prompt: list[int], num_tokens: int) -> None:
        super().__init__()
        self.times: list[float] = []
        self.text = ""
        self.has_begun = threading.Event()
        self._url = f"{url}/v1/completions"
        self._body = {"prompt": prompt, "max_tokens": num_tokens, "seed": 7, "ignore_eos": True, "stream": True}
        self.asked_at = time.monotonic()
        self.start()

    def run(self) -> None:
        """Reads the answer to its end."""
        with httpx.stream("POST", self._url, json=self._body, timeout=600.0) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {") and (choices := json.loads(line[6:]).get("choices")):
                    self.times.append(time.monotonic())
                    self.text += choices[0]["text"]
                    if len(self.times) == 20:
                        self.has_begun.set()

    def gaps(self, since: float, until: float) -> list[float]:
        """Between tokens of which the later one came in that time."""
        return [after - before for before, after in itertools.pairwise(self.times) if since < after < until]


def milliseconds(values: list[float]) -> str:
    """Of all that there is, in this order: half, 99 of 100, the longest."""
    ordered = sorted(values)
    return " / ".join(f"{ordered[int(share * (len(ordered) - 1))] * 1000:.0f}" for share in (0.5, 0.99, 1.0))


def prompts(model: str, name: str, flags: list[str]) -> list[str]:
    """Four streams, and five prompts of 1,500 tokens, one every two seconds."""
    chooser = random.Random(5)
    with RunningServer(*flags, model=model, timeout_seconds=300.0) as server:
        streams = [Stream(server.url, prompt_of(chooser, 64), 400) for _ in range(4)]
        for stream in streams:
            stream.has_begun.wait()
        began = time.monotonic()
        others = []
        for _ in range(5):
            others.append(Stream(server.url, prompt_of(chooser, 1500), 8))
            time.sleep(2.0)
        for stream in (*streams, *others):
            stream.join()
        first = [other.times[0] - other.asked_at for other in others]
        gaps = [gap for stream in streams for gap in stream.gaps(began, max(other.times[-1] for other in others))]
        handing = max(gap for other in others for gap in other.gaps(0.0, time.monotonic()))
        print(
            f"| {name} | {milliseconds(gaps)} | {max(stream.times[-1] for stream in streams) - began:.1f} | "
            f"{statistics.median(first):.1f} / {max(first):.1f} | {handing * 1000:.0f} |",
            flush=True,
        )
        return [stream.text for stream in (*streams, *others)]


def death(model: str, name: str, flags: list[str]) -> list[str]:
    """Eight streams with prompts of 300 tokens, and the worker of one of two engines is killed."""
    chooser = random.Random(5)
    with RunningServer(*flags, model=model, timeout_seconds=300.0) as server:
        streams = [Stream(server.url, prompt_of(chooser, 300), 400) for _ in range(8)]
        for stream in streams:
            stream.has_begun.wait()
        began = time.monotonic()
        os.kill(server.by_title()["yeoul::Worker_1"], signal.SIGKILL)
        for stream in streams:
            stream.join()
        longest = sorted((max(stream.gaps(began, time.monotonic())) for stream in streams), reverse=True)
        ends = sorted(stream.times[-1] - began for stream in streams)
        told = " ".join(f"{seconds:.2f}" for seconds in longest[:4])
        print(f"| {name} | {told} | {ends[0]:.1f} to {ends[-1]:.1f} |", flush=True)
        return [stream.text for stream in streams]


def prompt_of(chooser: random.Random, num_tokens: int) -> list[int]:
    """Tokens that no other prompt begins with."""
    return [chooser.randrange(1000, 9000) for _ in range(num_tokens)]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["prompts", "death"])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    expected = None
    for number in range(arguments.rounds):
        print(f"round {number + 1}, load {os.getloadavg()[0]:.1f}", flush=True)
        setups = SETUPS if arguments.what == "prompts" else {"two engines": TWO, "two engines, blocks kept": [*TWO, *KEPT]}
        for name, flags in setups.items():
            with tempfile.TemporaryDirectory(prefix="yeoul-engines-") as folder:
                whole = [*flags, folder] if flags[-1] == "--data-dir" else flags
                texts = (prompts if arguments.what == "prompts" else death)(arguments.model, name, whole)
            expected = expected or texts
            assert texts == expected, "the texts differ"
    print("all texts are equal")


if __name__ == "__main__":
    main()
