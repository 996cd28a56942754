"""How much is computed twice when a crowd is larger than the cache, with and without a forecast of how answers grow.

``python -m benchmarks.preemption`` plays crowds through the scheduler alone, without a model. A row tells, for a cache and a
crowd, the tokens computed over the tokens needed, the preemptions a request, the steps, and how many requests a step had.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from yeoul.config.settings import SchedulerSettings
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import RequestResult, StepInput, StepResult
from yeoul.scheduler.growth import GrowthForecast
from yeoul.scheduler.request import Request
from yeoul.scheduler.scheduler import Scheduler

BLOCK_SIZE = 16


@dataclass(frozen=True)
class Crowd:
    """Requests whose lengths are spread evenly over half to one and a half of the means; all are there from the start."""

    num_blocks: int
    prompt_tokens: int
    output_tokens: int
    num_requests: int

    def requests(self) -> list[AddRequest]:
        """The same ones each time."""
        chance = random.Random(1)
        return [
            AddRequest(
                request_id=str(number),
                prompt_token_ids=chance.choices(range(1000), k=self._length(chance, self.prompt_tokens)),
                sampling=SamplingParams(max_tokens=self._length(chance, self.output_tokens), seed=0),
            )
            for number in range(self.num_requests)
        ]

    @staticmethod
    def _length(chance: random.Random, mean: int) -> int:
        return chance.randint(mean // 2, mean * 3 // 2)


class Careless(GrowthForecast):
    """Looks at now alone: each may grow by one token."""

    def num_tokens_to_come(self, request: Request) -> int:
        """One."""
        return 1


def play(crowd: Crowd, forecast: GrowthForecast) -> str:
    """Until every request is answered: the row."""
    cache = KVCacheManager(crowd.num_blocks, BLOCK_SIZE)
    scheduler = Scheduler(SchedulerSettings(), cache, max_model_len=8192, forecast=forecast)
    lengths = {}
    num_needed = num_computed = num_steps = num_entries = 0
    for request in crowd.requests():
        assert scheduler.add(request) is None
        lengths[request.request_id] = len(request.prompt_token_ids)
        num_needed += len(request.prompt_token_ids) + (request.sampling.max_tokens or 0) - 1
    while scheduler.has_unfinished:
        step = scheduler.schedule()
        assert step is not None
        num_steps += 1
        num_entries += len(step.scheduled)
        num_computed += sum(entry.num_new_tokens for entry in step.scheduled)
        scheduler.update(step, answer(step, lengths))
    num_preemptions = scheduler.statistics().total_preemptions / crowd.num_requests
    return (
        f"computed {num_computed / num_needed:.3f} of what is needed, {num_preemptions:.2f} preemptions a request,"
        f" {num_steps} steps of {num_entries / num_steps:.1f}"
    )


def answer(step: StepInput, lengths: dict[str, int]) -> StepResult:
    """A token for each request that the step brings to the end of what is known."""
    results = []
    for entry in step.scheduled:
        if entry.num_computed_tokens + entry.num_new_tokens == lengths[entry.request_id]:
            lengths[entry.request_id] += 1
            results.append(RequestResult(entry.request_id, token_ids=[7]))
    return StepResult(step.step_number, results)


CROWDS = (Crowd(256, 64, 256, 200), Crowd(256, 64, 1024, 100), Crowd(1024, 128, 512, 400), Crowd(4096, 256, 512, 1000))


def main() -> None:
    """Plays each crowd in both ways."""
    for crowd in CROWDS:
        print(crowd)
        print("  now alone:", play(crowd, Careless(BLOCK_SIZE)))
        print("  forecast: ", play(crowd, GrowthForecast(BLOCK_SIZE)))


if __name__ == "__main__":
    main()
