"""A scheduler with its cache and a worker in one place, so that a test can say in a line what comes in and what happens."""

from __future__ import annotations

import msgspec

from tests.unit.scheduler.recomputing_worker import RecomputingWorker, lone_run
from yeoul.config.settings import SchedulerSettings
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.messages.outputs import RequestOutput
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import RequestResult, StepInput, StepResult
from yeoul.scheduler.growth import GrowthForecast
from yeoul.scheduler.scheduler import Scheduler


def new_request(request_id: str, prompt: int | list[int], *, max_tokens: int = 4, **fields) -> AddRequest:
    """A request with a prompt of its own of so many tokens (or with these), that nothing but ``max_tokens`` ends."""
    prompt_token_ids = prompt if isinstance(prompt, list) else [1000 + sum(map(ord, request_id)), *range(1, prompt)]
    sampling = fields.pop("sampling", SamplingParams(max_tokens=max_tokens, seed=0))
    return AddRequest(request_id=request_id, prompt_token_ids=prompt_token_ids, sampling=sampling, age_seconds=10.0, **fields)


class Desk:
    """Blocks of 4 tokens unless said otherwise; the clock stands at ``now``; invariants are checked in every step.

    With ``expected_tokens`` of 1 answers are thought to be short, so that more is admitted than there is room for.
    """

    def __init__(
        self,
        *,
        num_blocks=64,
        block_size=4,
        max_model_len=256,
        enable_prefix_caching=True,
        expected_tokens=256,
        max_num_leased_blocks=0,
        num_stages=1,
        **settings,
    ) -> None:
        self.now = 100.0
        self.cache = KVCacheManager(num_blocks, block_size, enable_prefix_caching, max_num_leased_blocks)
        self.max_num_tokens = min(max_model_len, num_blocks * block_size)
        self.scheduler = Scheduler(
            SchedulerSettings(check_invariants=True, **settings),
            self.cache,
            max_model_len,
            forecast=GrowthForecast(block_size, expected_tokens),
            num_stages=num_stages,
            clock=lambda: self.now,
        )
        self.worker = RecomputingWorker(num_blocks, block_size)
        self.outputs: dict[str, list[RequestOutput]] = {}

    def add(self, *messages: AddRequest) -> None:
        for message in messages:
            assert self.scheduler.add(message) is None

    def schedule(self) -> StepInput:
        step = self.scheduler.schedule()
        assert step is not None
        return step

    def answer(self, step: StepInput) -> list[RequestOutput]:
        return self.give(step, self.worker.execute(msgspec.msgpack.encode(step)))

    def give(self, step: StepInput, result: StepResult | list[RequestResult]) -> list[RequestOutput]:
        if isinstance(result, list):
            result = StepResult(step.step_number, result)
        outputs = self.scheduler.update(step, result)
        for output in outputs:
            self.outputs.setdefault(output.request_id, []).append(output)
        return outputs

    def take_step(self) -> StepInput:
        step = self.schedule()
        self.answer(step)
        return step

    def run_to_end(self) -> list[StepInput]:
        steps = []
        while self.scheduler.has_unfinished:
            steps.append(self.take_step())
            assert len(steps) < 1000
        assert self.cache.num_used_blocks == 0
        return steps

    def tokens_of(self, request_id: str) -> list[int]:
        return [token_id for output in self.outputs[request_id] for token_id in output.new_token_ids]

    def lone_tokens_of(self, message: AddRequest) -> list[int]:
        return lone_run(message, self.max_num_tokens)[0]


def num_tokens_in(step: StepInput) -> dict[str, int]:
    """How many tokens the step computes, by request, in the step's order."""
    return {entry.request_id: entry.num_new_tokens for entry in step.scheduled}
