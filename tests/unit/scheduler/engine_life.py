"""An engine in miniature: the scheduler, a worker that is some steps behind it, and clients that check all they get.

Each method is one thing that can happen; whoever calls them (hypothesis, or a random trace) decides the order. After each,
the invariants hold, and every token equals that of a lone run.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import msgspec

from tests.kv_event_reader import PrefixIndex
from tests.unit.scheduler.recomputing_worker import FirstStage, RecomputingWorker, lone_run, lone_values
from yeoul.config.settings import SchedulerSettings
from yeoul.kv_cache.block_events import BlockEvents
from yeoul.kv_cache.block_hash import extend_hashes, root_hash
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.messages.kv_events import KVEventBatch
from yeoul.messages.outputs import RequestOutput
from yeoul.messages.requests import AddRequest
from yeoul.messages.steps import StepInput, StepResult
from yeoul.scheduler.growth import GrowthForecast
from yeoul.scheduler.scheduler import Scheduler

MAX_NUM_IN_FLIGHT = 3


@dataclass
class Client:
    """What the other side of the engine knows of a request."""

    message: AddRequest
    token_ids: list[int]
    is_answered: bool = False


@dataclass(frozen=True)
class Shape:
    """The size of the engine."""

    settings: SchedulerSettings
    num_blocks: int
    block_size: int
    enable_prefix_caching: bool
    max_model_len: int
    expected_tokens: int
    num_tokens_at_once: int
    max_num_leased_blocks: int = 0
    num_stages: int = 1


class EngineLife:
    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.now = 0.0
        self.events, self.index = BlockEvents(shape.block_size), PrefixIndex()
        self.cache = KVCacheManager(
            shape.num_blocks, shape.block_size, shape.enable_prefix_caching, shape.max_num_leased_blocks, self.events
        )
        self.scheduler = Scheduler(
            shape.settings,
            self.cache,
            shape.max_model_len,
            forecast=GrowthForecast(shape.block_size, shape.expected_tokens),
            num_stages=shape.num_stages,
            clock=lambda: self.now,
        )
        self.first_stage = FirstStage()
        self.max_num_tokens = min(shape.max_model_len, shape.num_blocks * shape.block_size)
        self.worker = self._new_worker(-1)
        self.in_flight: deque[StepInput] = deque()
        self.dead_steps: list[StepInput] = []
        self.clients: dict[str, Client] = {}
        self.num_added = 0

    def add(self, template: AddRequest, num_choices: int = 1) -> None:
        for choice_index in range(num_choices):
            request_id = f"r{self.num_added}"
            self.num_added += 1
            self._add(msgspec.structs.replace(template, request_id=request_id, choice_index=choice_index))

    def add_again(self, request_id: str) -> None:
        """Nothing comes of it: there is one of this id."""
        assert self.scheduler.add(self.clients[request_id].message) is None
        self.check()

    def abort(self, request_ids: list[str], *, is_added_again: bool) -> None:
        messages = [self.clients.pop(request_id).message for request_id in request_ids]
        self.scheduler.abort([*request_ids, "nobody"])
        if is_added_again:
            for message in messages:
                self._add(message)
        self.check()

    def schedule(self) -> None:
        self.now += 0.25
        step = self.scheduler.schedule()
        if step is not None:
            self.in_flight.append(step)
        assert self.in_flight or not self.clients, "requests are left, and nothing happens"
        assert self.scheduler.num_in_flight == len(self.in_flight)
        self.check()

    def answer(self, faults: frozenset[str] = frozenset(), *, loses_an_answer: bool = False) -> None:
        """The oldest step in flight is computed and comes back."""
        step = self.in_flight.popleft()
        self.worker.faults = faults
        if self.shape.num_stages > 1:
            self.first_stage.take(step, self.worker)
        result = self.worker.execute(msgspec.msgpack.encode(step))
        failing = set(faults)
        due = [answer for answer in result.results if answer.token_ids or answer.embedding is not None]
        if loses_an_answer and due:
            failing.add(due[0].request_id)
            result = msgspec.structs.replace(result, results=[answer for answer in result.results if answer is not due[0]])
        self._deliver(self.scheduler.update(step, result), failing)
        self.check()

    def take_step(self) -> None:
        if len(self.in_flight) < MAX_NUM_IN_FLIGHT:
            self.schedule()
        if self.in_flight:
            self.answer()

    def replace_workers(self) -> None:
        self.dead_steps += self.in_flight
        self.in_flight.clear()
        self.worker = self._new_worker(self.worker.last_step_number)
        self.first_stage = FirstStage()
        outputs, _ = self.scheduler.note_crash("they died")
        self._deliver(outputs, {output.request_id for output in outputs})
        self.check()

    def answer_of_dead_workers(self) -> None:
        step = self.dead_steps.pop()
        assert self.scheduler.update(step, StepResult(step.step_number)) == []
        self.check()

    def forget_all_prefixes(self) -> None:
        self.cache.reset()
        self.check()

    def finish(self) -> None:
        """All clients get what they came for, and nothing is left."""
        num_steps = 0
        while self.clients:
            self.take_step()
            num_steps += 1
            assert num_steps < 5_000, "some request is starved"
        while self.in_flight:
            self.answer()
        assert not self.scheduler.has_unfinished
        assert self.cache.num_used_blocks == 0
        assert self.cache.num_free_blocks == self.shape.num_blocks
        assert set(self.scheduler.drain_finished()) == set(self.worker.requests), (
            "the workers remember too much or too little"
        )

    def check(self) -> None:
        self.scheduler.check_invariants()
        settings, statistics = self.shape.settings, self.scheduler.statistics()
        assert statistics.num_running + statistics.num_waiting + statistics.num_in_gaps == len(self.clients)
        assert self.scheduler.has_unfinished == bool(self.clients)
        assert self.scheduler.num_running <= settings.max_num_seqs
        assert self.worker.max_num_tokens_seen <= settings.max_num_batched_tokens
        self._check_index()

    def _check_index(self) -> None:
        """Who only hears events knows what is cached of any prompt without a salt, and of none with one."""
        self.index.apply(msgspec.msgpack.encode(KVEventBatch(0.0, self.events.take())))
        for client in list(self.clients.values())[-2:]:
            prompt = client.message.prompt_token_ids
            hashes: list[bytes] = []
            num_full = len(prompt) // self.shape.block_size
            extend_hashes(hashes, root_hash(), prompt, self.shape.block_size, num_full)
            assert self.index.num_known_blocks(prompt) == len(self.cache.find_prefix(hashes))

    def _new_worker(self, last_step_number: int) -> RecomputingWorker:
        shape = self.shape
        return RecomputingWorker(shape.num_blocks, shape.block_size, last_step_number, shape.num_tokens_at_once)

    def _add(self, message: AddRequest) -> None:
        fault = self.scheduler.add(message)
        num_tokens = len(message.prompt_token_ids) + len(message.output_token_ids)
        fits = num_tokens <= self.max_num_tokens - (message.pooling is None)
        if fault is None:
            assert fits
            self.clients[message.request_id] = Client(
                message, list(message.output_token_ids), is_answered=bool(message.output_token_ids)
            )
        elif fault.status == 429:
            limit = self.shape.settings.max_num_seqs + self.shape.settings.max_num_waiting_requests
            assert not message.output_token_ids
            assert sum(not client.is_answered for client in self.clients.values()) >= limit
        else:
            assert (fault.status, fits) == (400, False)
        self.check()

    def _deliver(self, outputs: list[RequestOutput], failing: set[str]) -> None:
        assert len({output.request_id for output in outputs}) == len(outputs)
        for output in outputs:
            client = self.clients[output.request_id]
            if output.fault is not None:
                assert output.finish_reason == "error"
                assert output.request_id in failing
            elif client.message.pooling is not None:
                assert output.finish_reason == "stop"
                assert output.embedding == b"".join(lone_values(client.message.prompt_token_ids))
            else:
                self._check_first(client, output)
                self._check_tokens(client, output)
            if output.finish_reason is not None:
                del self.clients[output.request_id]

    def _check_first(self, client: Client, output: RequestOutput) -> None:
        message = client.message
        assert (output.queue_seconds is not None) == (not client.is_answered)
        if not client.is_answered and message.sampling.prompt_logprobs is not None and not message.output_token_ids:
            ranks = [entry and entry.rank for entry in output.prompt_logprobs]
            assert ranks == [None, *range(1, len(message.prompt_token_ids))]
            assert output.num_cached_tokens == 0
        else:
            assert not output.prompt_logprobs
        client.is_answered = True

    def _check_tokens(self, client: Client, output: RequestOutput) -> None:
        client.token_ids += output.new_token_ids
        expected, finish_reason, stop_reason = lone_run(client.message, self.max_num_tokens)
        assert client.token_ids == expected[: len(client.token_ids)], f"{output.request_id} got other tokens than alone"
        if len(client.token_ids) == len(expected):
            assert (output.finish_reason, output.stop_reason) == (finish_reason, stop_reason)
        else:
            assert output.finish_reason is None
