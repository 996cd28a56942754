"""Random lives of an engine: whatever happens between steps, every request gets the tokens of a lone run."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.scheduler.recomputing_worker import VOCAB_SIZE, RecomputingWorker, lone_run
from yeoul.config.settings import SchedulerSettings
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.messages.outputs import RequestOutput
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import StepInput
from yeoul.scheduler.scheduler import Scheduler

MAX_NUM_IN_FLIGHT = 3
TOKENS = st.integers(0, 2)


@dataclass
class Client:
    """What the other side of the engine knows of a request."""

    message: AddRequest
    token_ids: list[int] = field(default_factory=list)


@st.composite
def adds(draw: st.DrawFn, request_id: str) -> AddRequest:
    max_tokens = draw(st.integers(1, 12))
    return AddRequest(
        request_id=request_id,
        prompt_token_ids=draw(st.lists(TOKENS, min_size=1, max_size=24)),
        output_token_ids=draw(st.one_of(st.just([]), st.lists(TOKENS, max_size=max_tokens - 1))),
        sampling=SamplingParams(
            seed=draw(st.integers(0, 2)),
            max_tokens=max_tokens,
            min_tokens=draw(st.integers(0, max_tokens)),
            stop_token_ids=draw(st.sampled_from([[], [3], [0, 1, 2]])),
            prompt_logprobs=draw(st.sampled_from([None, None, None, 1])),
        ),
        eos_token_ids=draw(st.sampled_from([[], [VOCAB_SIZE - 1]])),
        choice_index=draw(st.integers(0, 1)),
        priority=draw(st.integers(-1, 1)),
        cache_salt=draw(st.sampled_from(["", "a", "b"])),
        pooling=draw(st.sampled_from([None, None, None, None, None, "last", "mean"])),
        arrival_time=1.0,
    )


class EngineLife(RuleBasedStateMachine):
    """The scheduler, a worker that is some steps behind it, and clients that check what they get."""

    @initialize(
        num_blocks=st.integers(6, 40),
        block_size=st.sampled_from([1, 2, 4]),
        max_num_seqs=st.integers(1, 8),
        max_num_batched_tokens=st.integers(1, 40),
        policy=st.sampled_from(["fcfs", "priority"]),
        threshold=st.sampled_from([0, 0, 3]),
        caching=st.sampled_from([True, True, True, False]),
        max_model_len=st.sampled_from([20, 40]),
    )
    def start(self, num_blocks, block_size, max_num_seqs, max_num_batched_tokens, policy, threshold, caching, max_model_len):
        self.scheduler_settings = SchedulerSettings(
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            max_num_waiting_requests=20,
            scheduling_policy=policy,
            long_prefill_token_threshold=threshold,
            check_invariants=True,
        )
        self.cache = KVCacheManager(num_blocks, block_size, caching)
        self.scheduler = Scheduler(self.scheduler_settings, self.cache, max_model_len)
        self.max_num_tokens = min(max_model_len, num_blocks * block_size)
        self.worker = RecomputingWorker(num_blocks, block_size)
        self.in_flight: deque[StepInput] = deque()
        self.forgotten_steps: list[StepInput] = []
        self.clients: dict[str, Client] = {}
        self.num_added = 0

    @rule(data=st.data(), num_choices=st.sampled_from([1, 1, 2, 4]))
    def add(self, data, num_choices):
        first = data.draw(adds("template"))
        for _ in range(num_choices):
            message = msgspec.structs.replace(first, request_id=f"r{self.num_added}", choice_index=self.num_added % 2)
            self.num_added += 1
            self._add(message)

    def _add(self, message: AddRequest) -> None:
        fault = self.scheduler.add(message)
        room = self.max_num_tokens - (message.pooling is None)
        if len(message.prompt_token_ids) + len(message.output_token_ids) > room:
            assert fault is not None
            assert fault.status in (400, 429)
        elif fault is None:
            self.clients[message.request_id] = Client(message, list(message.output_token_ids))
        else:
            assert fault.status == 429
            assert len(self.clients) == self.scheduler_settings.max_num_seqs + 20

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), add_again=st.booleans())
    def abort(self, data, add_again):
        request_id = data.draw(st.sampled_from(sorted(self.clients)))
        client = self.clients.pop(request_id)
        self.scheduler.abort([request_id, "nobody"])
        if add_again:
            assert self.scheduler.add(client.message) is None
            self.clients[request_id] = Client(client.message, list(client.message.output_token_ids))

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def add_one_id_twice(self, data):
        request_id = data.draw(st.sampled_from(sorted(self.clients)))
        fault = self.scheduler.add(self.clients[request_id].message)
        assert fault is not None
        assert fault.status == 400

    @precondition(lambda self: len(self.in_flight) < MAX_NUM_IN_FLIGHT)
    @rule()
    def schedule(self):
        step = self.scheduler.schedule()
        if step is None:
            assert self.in_flight or not self.clients, "requests are left, and nothing happens"
        else:
            assert len(step.new_requests) <= self.scheduler_settings.max_num_seqs
            self.in_flight.append(step)
        assert self.scheduler.num_in_flight == len(self.in_flight)

    @precondition(lambda self: self.in_flight)
    @rule()
    def execute_and_update(self):
        step = self.in_flight.popleft()
        result = self.worker.execute(msgspec.msgpack.encode(step))
        self._deliver(self.scheduler.update(step, result))

    @rule(num_steps=st.integers(1, 6))
    def take_steps(self, num_steps):
        for _ in range(num_steps):
            if len(self.in_flight) < MAX_NUM_IN_FLIGHT:
                self.schedule()
            if self.in_flight:
                self.execute_and_update()

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def execute_with_faults(self, data):
        request_ids = sorted({entry.request_id for entry in self.in_flight[0].scheduled})
        self.worker.faults = set(data.draw(st.lists(st.sampled_from(request_ids), min_size=1, max_size=2)))
        self.execute_and_update()
        self.worker.faults = set()

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def lose_an_answer(self, data):
        step = self.in_flight.popleft()
        result = self.worker.execute(msgspec.msgpack.encode(step))
        if result.results:
            lost = data.draw(st.sampled_from(result.results))
            self.worker.faults = {lost.request_id}
            result = msgspec.structs.replace(result, results=[answer for answer in result.results if answer is not lost])
        self._deliver(self.scheduler.update(step, result))
        self.worker.faults = set()

    @rule()
    def replace_the_workers(self):
        self.forgotten_steps = list(self.in_flight)
        self.in_flight.clear()
        last_step_number = self.worker.last_step_number
        self.worker = RecomputingWorker(self.cache.num_blocks, self.cache.block_size)
        self.worker.last_step_number = last_step_number
        self.scheduler.requeue_all()

    @precondition(lambda self: self.forgotten_steps)
    @rule()
    def deliver_an_answer_of_dead_workers(self):
        step = self.forgotten_steps.pop()
        result = RecomputingWorker(self.cache.num_blocks, self.cache.block_size)
        assert self.scheduler.update(step, result_of_nobody(step)) == []
        assert result.last_step_number == -1

    @rule()
    def forget_all_prefixes(self):
        self.cache.reset()

    def _deliver(self, outputs: list[RequestOutput]) -> None:
        assert len({output.request_id for output in outputs}) == len(outputs)
        for output in outputs:
            self._receive(self.clients[output.request_id], output)
            if output.finish_reason is not None:
                del self.clients[output.request_id]

    def _receive(self, client: Client, output: RequestOutput) -> None:
        message = client.message
        if output.fault is not None:
            assert output.finish_reason == "error"
            assert output.request_id in self.worker.faults
            return
        if message.pooling is not None:
            assert output.finish_reason == "stop"
            assert output.embedding is not None
            return
        is_first = len(client.token_ids) == len(message.output_token_ids)
        assert (output.queue_seconds is not None) == is_first
        if is_first and message.sampling.prompt_logprobs is not None and not message.output_token_ids:
            assert len(output.prompt_logprobs) == len(message.prompt_token_ids)
            assert output.num_cached_tokens == 0
        else:
            assert not output.prompt_logprobs
        client.token_ids += output.new_token_ids
        expected, finish_reason, stop_reason = lone_run(message, self.max_num_tokens)
        assert client.token_ids == expected[: len(client.token_ids)], f"{output.request_id} got other tokens than alone"
        if len(client.token_ids) == len(expected):
            assert (output.finish_reason, output.stop_reason) == (finish_reason, stop_reason)
        else:
            assert output.finish_reason is None

    @invariant()
    def numbers_agree(self):
        if not hasattr(self, "scheduler"):
            return
        self.scheduler.check_invariants()
        statistics = self.scheduler.statistics()
        assert statistics.num_running + statistics.num_waiting == len(self.clients)
        assert self.scheduler.has_unfinished == bool(self.clients)
        assert statistics.num_running <= self.scheduler_settings.max_num_seqs
        assert self.worker.max_num_tokens_seen <= self.scheduler_settings.max_num_batched_tokens

    def teardown(self):
        if not hasattr(self, "scheduler"):
            return
        num_steps = 0
        while self.clients:
            self.take_steps(1)
            num_steps += 1
            assert num_steps < 10_000, "some request is starved"
        while self.in_flight:
            self.execute_and_update()
        assert not self.scheduler.has_unfinished
        assert self.cache.num_used_blocks == 0
        assert set(self.scheduler.drain_finished()) == set(self.worker.requests), (
            "the workers remember too much or too little"
        )


def result_of_nobody(step: StepInput):
    worker = RecomputingWorker(1, 1)
    return worker.execute(msgspec.msgpack.encode(StepInput(step_number=step.step_number)))


TestEngineLife = EngineLife.TestCase
TestEngineLife.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
