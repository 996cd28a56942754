"""Measures what kept blocks are worth, and what keeping them costs: a chat's second turn after a restart, and steps.

``python -m benchmarks.kv_tier --model MODEL`` starts servers of its own on a folder of its own; further flags are theirs.
``--costs`` starts none. ``--positions 65536`` takes a copy of a GGUF file that says it has so many: what such a model costs,
not what it says. ``--streams 8`` measures the times between tokens of others while blocks are loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from yeoul.config.settings import SchedulerSettings
from yeoul.engine_process.tier_place import _open_on_disk as open_on_disk
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.kv_cache.tier_file import TierFile
from yeoul.kv_cache.tier_index import TierIndex
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import BlockMove, MoveResult, RequestResult, StepInput, StepResult, TierFiles
from yeoul.scheduler.scheduler import Scheduler
from yeoul.scheduler.tier_moves import TierMoves
from yeoul.worker_process.tier_thread import TierThread

YEOUL = Path(sys.executable).parent / "yeoul"
PORT = 18431
URL = f"http://127.0.0.1:{PORT}"
BLOCK_BYTES = 368_640  # SmolLM2-135M: 16 tokens
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


def with_positions(model: str, num_positions: int, folder: str) -> str:
    """A copy of a GGUF file, whose context it says is so long."""
    content, key = bytearray(Path(model).read_bytes()), b".context_length"
    struct.pack_into("<I", content, content.index(key) + len(key) + 4, num_positions)
    copy = Path(folder, "long.gguf")
    copy.write_bytes(content)
    return str(copy)


def stream(prompt: list[int], num_tokens: int, times: list[float]) -> None:
    """Notes when each token came."""
    body = {"prompt": prompt, "max_tokens": num_tokens, "ignore_eos": True, "stream": True}
    url = f"{URL}/v1/completions"
    with contextlib.suppress(httpx.HTTPError), httpx.stream("POST", url, json=body, timeout=3600.0) as answer:
        for line in answer.iter_lines():
            if not (line.startswith("data: {") and json.loads(line[6:]).get("choices")):
                continue
            times.append(time.monotonic())


def beside(model: str | None, num_streams: int, num_tokens: int, flags: list[str]) -> None:
    """The times between tokens of streams alone, while prompts come from below, and while others are computed."""
    chooser = random.Random(3)

    def prompt_of(count: int) -> list[int]:
        return [chooser.randrange(1000, 9000) for _ in range(count)]

    kept, others = [prompt_of(num_tokens) for _ in range(6)], [prompt_of(num_tokens) for _ in range(2)]
    with tempfile.TemporaryDirectory(prefix="yeoul-kv-tier-") as folder:
        keeping = ["--data-dir", folder, "--kv-disk-bytes", "16GiB", *flags]
        with Server(model, keeping):
            for prompt in kept:
                ask(prompt)
            wait_until_stored(len(kept) * (num_tokens // 16))
        with Server(model, keeping):
            came: list[list[float]] = [[] for _ in range(num_streams)]
            streams = [threading.Thread(target=stream, args=(prompt_of(32), 1500, times)) for times in came]
            for thread in streams:
                thread.start()
            while min(map(len, came)) < 20:
                time.sleep(0.01)
            began = time.monotonic()
            time.sleep(4.0)
            _tell_gaps("alone", came, began)
            for name, prompts in (("prompts come from below", kept), ("prompts are computed", others)):
                began = time.monotonic()
                asked = [ask(prompt) for prompt in prompts]
                seconds, cached = statistics.median(one[0] for one in asked), sum(one[1] for one in asked)
                _tell_gaps(f"{name} ({cached} tokens cached, median {seconds:.2f} s)", came, began)


def _tell_gaps(name: str, came: list[list[float]], began: float) -> None:
    gaps = sorted(after - before for times in came for before, after in itertools.pairwise(times) if before > began)
    at = [gaps[int(share * (len(gaps) - 1))] * 1000 for share in (0.5, 0.99, 1.0)]
    print(f"{name}: {len(gaps)} gaps, p50 {at[0]:.0f}, p99 {at[1]:.0f}, longest {at[2]:.0f} ms", flush=True)


def costs() -> None:
    """What the scheduler does more a step, what a worker does in a step and beside it, and what a start reads."""
    for name in ("off", "on", "off", "on", "off", "on"):
        print(f"the scheduler, 64 decodes, {name}: {_scheduler_seconds(has_tier=name == 'on') * 1e6:.1f} µs a step")
    with tempfile.TemporaryDirectory(prefix="yeoul-kv-tier-") as folder:
        _measure_moves(folder)
        _measure_start(folder)


def _scheduler_seconds(*, has_tier: bool) -> float:
    """Processor time of ``schedule`` and ``update``, over 600 steps; every block is stored at once."""
    cache = KVCacheManager(8192, 16)
    moves = TierMoves(TierIndex(20000), cache, 1, 182) if has_tier else None
    scheduler = Scheduler(SchedulerSettings(), cache, 8192, moves=moves)
    for number in range(64):
        prompt = [(number * 7919 + place) % 4000 for place in range(256)]
        sampling = SamplingParams(max_tokens=700, ignore_eos=True, seed=1)
        scheduler.add(AddRequest(request_id=f"r{number}", prompt_token_ids=prompt, sampling=sampling))
    seconds = 0.0
    for count in range(640):
        began = time.process_time()
        step = scheduler.schedule()
        scheduled = time.process_time()
        assert step is not None
        ready = [one for one in step.scheduled if one.num_computed_tokens + one.num_new_tokens >= 256]
        results = [RequestResult(one.request_id, [count]) for one in ready]
        answer = StepResult(step.step_number, results, 0.01, moves=[MoveResult(move.slot) for move in step.stores])
        answered = time.process_time()
        scheduler.update(step, answer)
        if count >= 40:
            seconds += scheduled - began + time.process_time() - answered
    return seconds / 600


def _measure_moves(folder: str) -> None:
    paths = [f"{folder}/slots", f"{folder}/entries"]
    for path in paths:
        Path(path).touch()
    blocks = np.random.default_rng(1).integers(0, 255, (128, BLOCK_BYTES), dtype=np.uint8)
    thread = TierThread(TierFiles(paths[:1], paths[1:], 182), 0, blocks)
    time.sleep(3.0)  # its memory is there

    def move(step: StepInput) -> tuple[float, float]:
        began, left = time.perf_counter(), 128
        thread.begin(step)
        copied = time.perf_counter() - began
        while left:
            left -= len(thread.ended(waits=True))
        return copied, time.perf_counter() - began

    every = [BlockMove(place, place, bytes([place + 1]) * 32, 1) for place in range(128)]
    for number in range(5):
        copied, written = move(StepInput(step_number=number, stores=every))
        _, loaded = move(StepInput(step_number=number, loads=every))
        print(
            f"128 blocks: copied in {copied * 1e3:.1f} ms, written after {written * 1e3:.0f}, loaded in {loaded * 1e3:.0f} ms"
        )
    thread.stop()


def _measure_start(folder: str) -> None:
    """10 GiB of SmolLM2's blocks, as entries; slots are not read."""
    place = open_on_disk(f"{folder}/kv", bytes(32), BLOCK_BYTES, 1, 10 << 30, 1)
    assert place.files is not None
    file = TierFile.open(place.files.slot_paths[0], place.files.entry_paths[0], 1)
    for slot in range(place.index.num_slots):
        file.write(slot, sha256(str(slot).encode()).digest(), memoryview(b"x"), slot)
    place.close()
    for _ in range(5):
        began = time.perf_counter()
        place = open_on_disk(f"{folder}/kv", bytes(32), BLOCK_BYTES, 1, 10 << 30, 1)
        print(
            f"{len(place.index)} blocks of {BLOCK_BYTES} bytes are known after {(time.perf_counter() - began) * 1e3:.0f} ms"
        )
        place.close()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--costs", action="store_true")
    parser.add_argument("--positions", type=int)
    parser.add_argument("--streams", type=int)
    arguments, flags = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="yeoul-kv-tier-model-") as folder:
        model = arguments.model
        if arguments.positions:
            model = with_positions(model, arguments.positions, folder)
        if arguments.costs:
            costs()
        elif arguments.streams:
            beside(model, arguments.streams, arguments.tokens, flags)
        else:
            turns(model, arguments.tokens, flags)


if __name__ == "__main__":
    main()
