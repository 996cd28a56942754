"""The real scheduler drives the fake model's worker: crowded, chunked, preempted, cached; always the same text."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest

from tests.fake_answer import expected_tokens
from tests.unit.worker_process.fake_worker import fake_worker, greedy, seeded
from yeoul.config.settings import SchedulerSettings
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.messages.requests import AddRequest
from yeoul.messages.steps import StepInput
from yeoul.scheduler.growth import GrowthForecast
from yeoul.scheduler.scheduler import Scheduler
from yeoul.worker_process.worker import Worker


class Engine:
    """EngineCore without processes. With ``max_num_in_flight`` above 1 the worker is so many steps behind, less one."""

    def __init__(
        self, *, num_blocks: int, enable_prefix_caching: bool = True, max_num_in_flight: int = 1, **budgets: Any
    ) -> None:
        self.max_num_in_flight = max_num_in_flight
        self.in_flight: deque[StepInput] = deque()
        self.worker: Worker = fake_worker(num_blocks)
        settings = SchedulerSettings(**{"max_num_seqs": 8, "max_num_batched_tokens": 512, "check_invariants": True} | budgets)
        cache = KVCacheManager(num_blocks, 4, enable_prefix_caching)
        # Answers are thought to be short, so that more is admitted than there is room for.
        self.scheduler = Scheduler(settings, cache, max_model_len=256, forecast=GrowthForecast(4, first_guess_tokens=1))
        self.tokens: dict[str, list[int]] = {}

    def add(self, message: AddRequest) -> None:
        assert self.scheduler.add(message) is None
        self.tokens[message.request_id] = []

    def step(self) -> bool:
        step = self.scheduler.schedule()
        if step is not None:
            self.in_flight.append(step)
            if len(self.in_flight) < self.max_num_in_flight:
                return True
        if not self.in_flight:
            return False
        step = self.in_flight.popleft()
        for output in self.scheduler.update(step, self.worker.execute(step)):
            assert output.fault is None, output.fault
            self.tokens[output.request_id] += output.new_token_ids
        return True

    def run(self) -> None:
        while self.step():
            pass
        assert not self.scheduler.has_unfinished


def messages() -> list[AddRequest]:
    chooser = random.Random(4)
    shared = [chooser.randrange(256) for _ in range(30)]
    return [
        AddRequest(
            request_id=f"r{index}",
            prompt_token_ids=shared[: chooser.randrange(31)] + [chooser.randrange(256) for _ in range(1 + 9 * (index % 8))],
            sampling=seeded(index, ignore_eos=True) if index % 3 else greedy(ignore_eos=True),
            choice_index=index % 4,
        )
        for index in range(24)
    ]


def expected_of(message: AddRequest) -> list[int]:
    return expected_tokens(
        message.prompt_token_ids,
        message.sampling,
        message.sampling.max_tokens or 0,
        choice_index=message.choice_index,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"num_blocks": 400},
        {"num_blocks": 400, "enable_prefix_caching": False},
        {"num_blocks": 400, "max_num_batched_tokens": 16},
        {"num_blocks": 70},
        {"num_blocks": 70, "max_num_batched_tokens": 16, "long_prefill_token_threshold": 5},
    ],
)
@pytest.mark.parametrize("ahead", [{}, {"async_scheduling": True, "max_num_in_flight": 2}])
def test_every_request_gets_its_own_tokens(options, ahead):
    engine = Engine(**options, **ahead)
    for message in messages():
        engine.add(message)
    engine.run()
    for message in messages():
        assert engine.tokens[message.request_id] == expected_of(message)
    if options["num_blocks"] == 70:
        assert engine.scheduler.statistics().total_preemptions > 0


@pytest.mark.parametrize("ahead", [{}, {"async_scheduling": True, "max_num_in_flight": 2}])
def test_an_abort_and_the_same_id_again_leave_no_trace(ahead):
    engine = Engine(num_blocks=100, **ahead)
    first, *others = messages()[:6]
    for message in (first, *others):
        engine.add(message)
    for _ in range(7):
        engine.step()
    engine.scheduler.abort([first.request_id, others[0].request_id])
    engine.add(first)
    engine.run()
    for message in (first, *others[1:]):
        assert engine.tokens[message.request_id] == expected_of(message)


@pytest.mark.parametrize("ahead", [{}, {"async_scheduling": True, "max_num_in_flight": 2}])
def test_new_workers_go_on_where_the_old_ones_were(ahead):
    engine = Engine(num_blocks=100, **ahead)
    for message in messages()[:8]:
        engine.add(message)
    for _ in range(20):
        engine.step()
    engine.worker = fake_worker(100)
    engine.in_flight.clear()
    engine.scheduler.requeue_all()
    engine.run()
    for message in messages()[:8]:
        assert engine.tokens[message.request_id] == expected_of(message)
