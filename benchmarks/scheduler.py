"""Measures what deciding costs: ``schedule`` and ``update`` for requests in steady decode, and the admission of a burst.

Run it with ``python -m benchmarks.scheduler`` from the root of the repository; it needs no model and no other process. The
answers are made outside the time measured.
"""

from __future__ import annotations

import statistics
import time

from yeoul.config.settings import SchedulerSettings
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import RequestResult, StepInput, StepResult
from yeoul.scheduler.scheduler import Scheduler

NUM_PROMPT_TOKENS = 256
BLOCK_SIZE = 16
NUM_STEPS = 500


def scheduler_with(num_requests: int) -> Scheduler:
    """A scheduler with so many requests in its queue, each with a prompt of its own, and room for all of them."""
    settings = SchedulerSettings(max_num_seqs=num_requests, max_num_batched_tokens=num_requests * 2 * NUM_PROMPT_TOKENS)
    scheduler = Scheduler(settings, KVCacheManager(num_requests * 64, BLOCK_SIZE), max_model_len=1024)
    for index in range(num_requests):
        fault = scheduler.add(
            AddRequest(
                request_id=f"request-{index}",
                prompt_token_ids=[index, *range(1, NUM_PROMPT_TOKENS + index % BLOCK_SIZE)],
                sampling=SamplingParams(max_tokens=700, seed=index),
                eos_token_ids=[2],
            )
        )
        assert fault is None
    return scheduler


def answer(step: StepInput) -> StepResult:
    """One token for each request of the step."""
    return StepResult(step.step_number, [RequestResult(entry.request_id, [100]) for entry in step.scheduled])


def measure(num_requests: int) -> str:
    """One line of the table, in microseconds a step."""
    scheduler = scheduler_with(num_requests)
    schedule_seconds, update_seconds = [], []
    for _ in range(NUM_STEPS):
        start = time.perf_counter()
        step = scheduler.schedule()
        scheduled = time.perf_counter()
        assert step is not None
        result = answer(step)
        answered = time.perf_counter()
        scheduler.update(step, result)
        schedule_seconds.append(scheduled - start)
        update_seconds.append(time.perf_counter() - answered)
    first, *schedule_seconds = schedule_seconds
    medians = [statistics.median(seconds) * 1e6 for seconds in (schedule_seconds, update_seconds[1:])]
    mean = (sum(schedule_seconds) + sum(update_seconds[1:])) / (NUM_STEPS - 1) * 1e6
    return (
        f"{num_requests:4d} running: schedule {medians[0]:6.1f} µs, update {medians[1]:6.1f} µs (medians), "
        f"both {mean:6.1f} µs (mean); admitting all of them {first * 1e6:7.0f} µs"
    )


if __name__ == "__main__":
    for num_running in (1, 32, 256):
        print(measure(num_running))
