"""Measures steps of the worker alone, in this process: no server, no rings. Decode for 1, 8 and 32 requests, and prefill.

Run it with ``python -m benchmarks.worker_step [model] [--dtype ...] [--threads N] [--profile]`` from the root of the
repository; without a model it takes the default one. ``--profile`` prints where Python's part of a decode step for one
request goes, by cProfile.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import statistics
import time

from yeoul.config.openmp import keep_openmp_from_spinning

keep_openmp_from_spinning()

from yeoul.config.parts import WorkerSettings  # noqa: E402
from yeoul.config.settings import CacheSettings, FakeSettings, ModelSettings  # noqa: E402
from yeoul.messages.sampling import SamplingParams  # noqa: E402
from yeoul.messages.steps import NewRequest, ScheduledRequest, StepInput  # noqa: E402
from yeoul.model_files.describe import describe  # noqa: E402
from yeoul.model_files.resolve import resolve_model  # noqa: E402
from yeoul.worker_process.worker import Worker  # noqa: E402

NUM_PROMPT_TOKENS = 256
NUM_BLOCKS_EACH = 40
BLOCK_SIZE = 16


def make_worker(arguments: argparse.Namespace) -> Worker:
    """A worker with its model loaded and room for 32 requests."""
    model = ModelSettings(model=arguments.model, dtype=arguments.dtype, device="cpu")
    files = resolve_model(model)
    worker = Worker(
        WorkerSettings(
            rank=0,
            tensor_parallel_size=1,
            num_compute_threads=arguments.threads,
            model=model,
            files=files,
            description=describe(files),
            max_model_len=NUM_BLOCKS_EACH * BLOCK_SIZE,
            max_num_seqs=32,
            max_num_batched_tokens=8192,
            cache=CacheSettings(block_size=BLOCK_SIZE),
            fake=FakeSettings(),
            folder="",
        )
    )
    start = time.perf_counter()
    print(worker.load().device, f"loaded in {time.perf_counter() - start:.2f} s")
    return worker


class Requests:
    """So many requests in one batch, each with a prompt of its own."""

    def __init__(self, worker: Worker, number: int, name: str) -> None:
        self._worker = worker
        self._ids = [f"{name}-{index}" for index in range(number)]
        self._num_computed = 0
        self._num_given_blocks = 0

    def prefill(self) -> float:
        """Computes all prompts in one step; seconds."""
        sampling = SamplingParams(temperature=0.0, max_tokens=NUM_BLOCKS_EACH * BLOCK_SIZE)
        news = [
            NewRequest(
                request_id=request_id,
                prompt_token_ids=[(place * 37 + index * 101) % 1000 + 100 for place in range(NUM_PROMPT_TOKENS)],
                sampling=sampling,
            )
            for index, request_id in enumerate(self._ids)
        ]
        return self._step(NUM_PROMPT_TOKENS, news)

    def decode(self) -> float:
        """Computes one token of each; seconds."""
        return self._step(1, [])

    def _step(self, num_tokens: int, news: list[NewRequest]) -> float:
        needed = -(-(self._num_computed + num_tokens) // BLOCK_SIZE)
        scheduled = [
            ScheduledRequest(
                request_id,
                self._num_computed,
                num_tokens,
                list(range(index * NUM_BLOCKS_EACH + self._num_given_blocks, index * NUM_BLOCKS_EACH + needed)),
            )
            for index, request_id in enumerate(self._ids)
        ]
        start = time.perf_counter()
        result = self._worker.execute(StepInput(step_number=1, new_requests=news, scheduled=scheduled))
        seconds = time.perf_counter() - start
        assert not any(one.fault for one in result.results), result.results[0].fault
        self._num_computed += num_tokens
        self._num_given_blocks = needed
        return seconds


def measure(worker: Worker, number: int, num_steps: int) -> str:
    """One line: milliseconds of the prefill of ``number`` requests, then of decode steps."""
    worker.allocate_cache(32 * NUM_BLOCKS_EACH)
    Requests(worker, number, "warm").prefill()
    worker.allocate_cache(32 * NUM_BLOCKS_EACH)
    requests = Requests(worker, number, "request")
    prefill = requests.prefill()
    times = [requests.decode() for _ in range(num_steps)]
    return (
        f"{number:>3} requests: prefill {prefill * 1e3:.1f} ms, a decode step {statistics.median(times) * 1e3:.2f} ms "
        f"(least {min(times) * 1e3:.2f})"
    )


def profile(worker: Worker, num_steps: int) -> None:
    """Prints the 25 functions in which a decode step of one request spends most."""
    worker.allocate_cache(32 * NUM_BLOCKS_EACH)
    requests = Requests(worker, 1, "profiled")
    requests.prefill()
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(num_steps):
        requests.decode()
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--requests", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    worker = make_worker(arguments)
    gc.freeze()
    for number in arguments.requests:
        print(measure(worker, number, arguments.steps), flush=True)
    if arguments.profile:
        profile(worker, arguments.steps)


if __name__ == "__main__":
    main()
