"""Builds what tests of the worker need: settings and steps for the fake model."""

from __future__ import annotations

from typing import Any

import msgspec

from yeoul.config.parts import WorkerSettings
from yeoul.config.settings import CacheSettings, FakeSettings, ModelSettings
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import NewRequest, RequestResult, ScheduledRequest, StepInput
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.worker_process.worker import Worker

FAKE_DESCRIPTION = ModelDescription(
    architecture="fake",
    file_format="fake",
    num_layers=1,
    hidden_size=16,
    intermediate_size=16,
    num_heads=1,
    num_kv_heads=1,
    head_dim=16,
    vocab_size=512,
    max_position_embeddings=4096,
    rms_norm_eps=1e-5,
    attention_scale=0.25,
    rope_theta=10000.0,
)


def fake_settings(**changes: Any) -> WorkerSettings:
    settings = WorkerSettings(
        rank=0,
        tensor_parallel_size=1,
        num_compute_threads=1,
        model=ModelSettings(model="fake"),
        files=ModelFiles(name="fake", file_format="fake", path=""),
        description=FAKE_DESCRIPTION,
        max_model_len=256,
        max_num_seqs=8,
        max_num_batched_tokens=512,
        cache=CacheSettings(block_size=4),
        fake=FakeSettings(),
        folder="",
    )
    return msgspec.structs.replace(settings, **changes)


def fake_worker(num_blocks: int = 256, **changes: Any) -> Worker:
    worker = Worker(fake_settings(**changes))
    worker.load()
    worker.allocate_cache(num_blocks)
    return worker


def greedy(**changes: Any) -> SamplingParams:
    return SamplingParams(temperature=0.0, max_tokens=64, **changes)


def seeded(seed: int, **changes: Any) -> SamplingParams:
    return SamplingParams(temperature=1.0, seed=seed, max_tokens=64, **changes)


class Driver:
    """Schedules one request by hand: chunks of the prompt, then a token a step, in blocks that the test chooses."""

    def __init__(self, worker: Any, request: NewRequest, block_ids: list[int], block_size: int = 4) -> None:
        self.worker = worker
        self.request = request
        self.block_ids = block_ids
        self.block_size = block_size
        self.num_computed = 0
        self.num_given_blocks = 0
        self.tokens: list[int] = list(request.output_token_ids)
        self.results: list[RequestResult] = []
        self._is_new = True

    def part(self, num_new_tokens: int) -> ScheduledRequest:
        needed = -(-(self.num_computed + num_new_tokens) // self.block_size)
        new_block_ids = self.block_ids[self.num_given_blocks : needed]
        self.num_given_blocks = max(self.num_given_blocks, needed)
        part = ScheduledRequest(self.request.request_id, self.num_computed, num_new_tokens, new_block_ids)
        self.num_computed += num_new_tokens
        return part

    def new_requests(self) -> list[NewRequest]:
        news = [self.request] if self._is_new else []
        self._is_new = False
        return news

    def take(self, results: list[RequestResult]) -> None:
        for result in results:
            if result.request_id == self.request.request_id:
                self.results.append(result)
                self.tokens += result.token_ids

    def run(self, num_tokens: int, chunk: int = 10_000) -> list[int]:
        return run_together([self], num_tokens, chunk)[0]

    @property
    def num_known(self) -> int:
        return len(self.request.prompt_token_ids) + len(self.tokens)


_step_numbers = iter(range(1, 1 << 60))


def run_together(drivers: list[Driver], num_tokens: int, chunk: int = 10_000) -> list[list[int]]:
    """Runs requests in one batch until each has ``num_tokens`` tokens of output."""
    while unfinished := [driver for driver in drivers if len(driver.tokens) < num_tokens]:
        step = StepInput(
            step_number=next(_step_numbers),
            new_requests=[request for driver in unfinished for request in driver.new_requests()],
            scheduled=[driver.part(min(chunk, driver.num_known - driver.num_computed)) for driver in unfinished],
        )
        result = unfinished[0].worker.execute(step)
        assert result.step_number == step.step_number
        for driver in unfinished:
            driver.take(result.results)
            assert not any(entry.fault for entry in driver.results), driver.results[-1]
    return [driver.tokens for driver in drivers]


def fault_of(result: RequestResult) -> str:
    """Why the request failed."""
    assert result.fault is not None
    return result.fault.message
