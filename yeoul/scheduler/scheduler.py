"""Scheduler: which requests run in the next step, and what its answer means for them; knows no process and no tensor.

Called by EngineCoreProc's busy loop: ``add`` and ``abort`` between steps, ``schedule`` for the next step, ``update`` with
its answer. A further step may be scheduled while one is in flight; answers come back in the order of their steps. With
``async_scheduling`` it may even compute tokens that the step in flight samples: the workers have them when it is their turn.
In a pipeline it never does, and a step leaves some of those that decode to the steps that the other stages compute meanwhile.
"""

# size: what a step is put together from, in one place and one order
from __future__ import annotations

import logging
import time
from bisect import insort
from collections.abc import Callable, Iterable

from yeoul.config.settings import SchedulerSettings
from yeoul.kv_cache.block_hash import MAX_TOKEN_ID
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.log import of_request
from yeoul.messages.outputs import RequestFault, RequestOutput
from yeoul.messages.requests import AddRequest
from yeoul.messages.statistics import EngineStatistics
from yeoul.messages.steps import StepInput, StepResult
from yeoul.recovery.crash_inquiry import Verdict
from yeoul.scheduler.answers import AnswerReader, fail
from yeoul.scheduler.fair_shares import FairShares
from yeoul.scheduler.growth import GrowthForecast
from yeoul.scheduler.invariants import check_invariants
from yeoul.scheduler.plan import StepPlan
from yeoul.scheduler.prefixes import Prefixes
from yeoul.scheduler.queue import WaitingQueue, order_key, order_of
from yeoul.scheduler.refusal import find_flaw
from yeoul.scheduler.request import Request, RequestStatus
from yeoul.scheduler.step_budget import StepBudget
from yeoul.scheduler.tier_moves import TierMoves
from yeoul.scheduler.trials import Trials

logger = logging.getLogger(__name__)

_SHARE_OF_OTHERS = 0.5  # of the blocks, that requests which fill gaps leave to what is known of others
MAX_NUM_DEFERRED = 32  # waiting requests that a step passes over, because their prefix is just being computed


class Scheduler:
    """Continuous batching over a paged cache.

    A step takes running requests first, those that decode before those whose prompt is still being computed, then admits
    waiting ones, within ``max_num_batched_tokens``, ``max_num_seqs`` and the free blocks. When a decode finds no block, the
    request that is last in order is preempted: it gives its blocks back and computes what it lost later.

    Args:
        settings: budgets, policy, bound of the queue.
        cache: the blocks; nobody else allocates from it.
        max_model_len: the tokens that the model's context holds, prompt and output together.
        vocab_size: how many tokens there are.
        step_budget: what is known of the time that steps take; None: nothing.
        forecast: what is known of the lengths of answers; None: nothing.
        moves: between the cache and the tier below it; None: there is none.
        num_stages: of the pipeline that computes the steps, as many of which are in flight.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        settings: SchedulerSettings,
        cache: KVCacheManager,
        max_model_len: int,
        vocab_size: int = MAX_TOKEN_ID + 1,
        *,
        step_budget: StepBudget | None = None,
        forecast: GrowthForecast | None = None,
        moves: TierMoves | None = None,
        num_stages: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._cache = cache
        self._clock = clock
        self._vocab_size = vocab_size
        self._max_num_tokens = min(max_model_len, cache.num_blocks * cache.block_size)
        self._requests: dict[str, Request] = {}
        self._forecast = forecast or GrowthForecast(cache.block_size)
        self._moves = moves
        self._num_stages = num_stages
        self._runs_ahead = settings.async_scheduling and num_stages == 1
        self._prefixes = Prefixes(cache, moves)
        self._shares = FairShares()
        self._waiting = WaitingQueue(self._shares.cost_of)
        self._running: list[Request] = []  # sorted by order
        self._trials = Trials(self._waiting)
        self._in_flight: dict[int, StepPlan] = {}
        self._finished_ids: list[str] = []  # what the workers have yet to forget
        self._num_added = 0
        self._next_step_number = 0
        self._answers = AnswerReader(self._prefixes)
        self.step_budget = step_budget or StepBudget(settings.max_decode_pause_milliseconds / 1000, cache.block_size)
        self._total_steps = 0  # of requests; others only move blocks
        self._total_preemptions = 0
        self._total_prefix_queried_tokens = 0
        self._total_prefix_hit_tokens = 0

    @property
    def has_unfinished(self) -> bool:
        """Whether any request waits or runs. If so, ``schedule`` gives a step, or one is in flight."""
        return bool(self._requests)

    @property
    def unfinished_request_ids(self) -> list[str]:
        """The ids of all requests that wait or run."""
        return list(self._requests)

    @property
    def computable_request_ids(self) -> list[str]:
        """The ids of those that may be in the next step: all but those that are held back."""
        return [request.request_id for request in self._requests.values() if request.status is not RequestStatus.HELD]

    @property
    def suspect_ids(self) -> list[str]:
        """The ids of those that a death counts against."""
        return self._trials.inquiry.suspect_ids

    @property
    def num_running(self) -> int:
        """Requests that hold blocks."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Requests in the queue, preempted ones and those that are held back included."""
        return len(self._waiting) + len(self._trials.held)

    @property
    def num_in_flight(self) -> int:
        """Steps that were scheduled and have not come back."""
        return len(self._in_flight)

    def add(self, message: AddRequest) -> RequestFault | None:
        """Takes a request into the queue; a fault says why not (400 for its own flaws, 429 for a full queue).

        The queue is full when as many that have got nothing yet are here as may run and wait together, so a burst into an
        idle engine, and all requests of an engine that died, find room. A request that is here already is not taken twice:
        an answer under its id would be that of the one that runs.
        """
        if message.request_id in self._requests:
            logger.warning("this request is here already and was not taken again", extra=of_request(message.request_id))
            return None
        limit = self._settings.max_num_seqs + self._settings.max_num_waiting_requests
        if len(self._requests) >= limit and not (message.output_token_ids or message.in_gaps):
            num_unanswered = sum(not (request.has_answered or request.in_gaps) for request in self._requests.values())
            if num_unanswered >= limit:
                return RequestFault(f"{num_unanswered} new requests run or wait, and {limit} may; try again later", 429)
        fault = find_flaw(message, self._max_num_tokens, self._vocab_size)
        if fault is None:
            policy = self._settings.scheduling_policy
            order = order_of(policy, message.priority, self._num_added, in_gaps=message.in_gaps)
            request = Request(message, order, self._clock() - message.age_seconds, self._max_num_tokens)
            self._num_added += 1
            self._requests[request.request_id] = request
            self._shares.enter(request, self._running)
            self._trials.enter(request)
        return fault

    def abort(self, request_ids: Iterable[str], *, are_complete: bool = False) -> None:
        """Forgets these requests and frees their blocks at once; unknown ids are ignored, and no output follows.

        ``are_complete``: their answers are, by something that only the client sees.
        """
        for request_id in request_ids:
            if (request := self._requests.get(request_id)) is not None:
                if are_complete:
                    self._forecast.note_finished(request)
                self._take_out(request)
                self._finish(request)

    def schedule(self) -> StepInput | None:
        """The next step; None if there is nothing to compute, or nothing before the step in flight comes back."""
        if self._cache.num_leased_blocks:
            self._cache.end_leases(self._clock())
        for request in self._trials.deal(self._running):
            self._take_out(request)
            self._release(request, RequestStatus.WAITING)
            self._trials.put_back(request)
        if self._moves is not None:
            self._moves.prepare(self._clock())  # first of all: what is reused in this step is stored before
        plan = StepPlan(self._next_step_number, self._settings.max_num_batched_tokens)
        plan.in_gaps = self._is_gap()
        prefills = self._schedule_decodes(plan)
        plan.num_decodes = len(plan.scheduled)
        self._schedule_prefills(plan, prefills)
        if not plan.has_preempted:
            self._admit(plan)
        if self._num_stages > 1:
            for request in plan.requests:
                plan.tell(request)
        step = None
        if plan.scheduled or self._has_moves():
            step = plan.as_message(self.drain_finished(), self._moves)
            self._in_flight[plan.step_number] = plan
            self._next_step_number += 1
            self._total_steps += bool(plan.scheduled)
        if self._settings.check_invariants:
            self.check_invariants()
        return step

    def longest_seconds(self, step: StepInput) -> float | None:
        """The longest that steps of the size of this one, which is in flight, took of late; None where nothing is known."""
        return self.step_budget.patience.longest(self._in_flight[step.step_number])

    def update(self, step: StepInput, result: StepResult) -> list[RequestOutput]:
        """Applies a step's answer and returns what each request gained; requests that are gone since then are ignored."""
        plan = self._in_flight.pop(step.step_number, None)
        if plan is None:
            return []  # the workers were replaced since
        if plan.scheduled:
            self.step_budget.learn(plan, result.compute_seconds)
        if self._moves is not None:
            self._moves.note(result.moves)
        gains = self._answers.read(plan, result)
        if gains.finished:
            self._running = [request for request in self._running if request.status is RequestStatus.RUNNING]
            for request in gains.finished:
                self._finish(request)
            for request in gains.complete:
                self._forecast.note_finished(request)
        for request in gains.requests:
            self._trials.inquiry.clear(request.request_id)
        if self._settings.check_invariants:
            self.check_invariants()
        return gains.outputs

    def requeue_all(self) -> None:
        """The workers were replaced: whatever ran waits again, with its output so far; the cache is empty."""
        running, self._running = self._running, []
        for request in running:
            self._release(request, RequestStatus.WAITING)
            self._trials.put_back(request)
        for request in self._requests.values():
            request.has_progressed = request.has_loaded = False
        self._in_flight.clear()
        self._finished_ids.clear()
        self._cache.reset()
        if self._moves is not None:
            self._moves.reset()

    def forget_prefixes(self) -> None:
        """A caller wants to start from nothing: no prefix is known from now on, here or in the tier below."""
        self._cache.reset()
        if self._moves is not None:
            self._moves.forget_all()

    def lose_tier(self) -> None:
        """The new workers, whose steps have yet to begin, go on without what is below."""
        if self._moves is not None:
            self._moves.lose()

    def note_crash(self, cause: str) -> tuple[list[RequestOutput], Verdict]:
        """The workers died of ``cause``: as ``requeue_all``, and if a request is found to be to blame, that one fails.

        Returns:
            the output that tells it, and what the death has told us.
        """
        in_flight = self._ids_in_flight()
        computed = [self._requests[request_id] for request_id in in_flight if request_id in self._requests]
        silent = [request.request_id for request in computed if not request.has_progressed]
        self.requeue_all()
        verdict = self._trials.inquiry.note_crash(silent, is_alone=len(in_flight) == 1)
        outputs = []
        if (culprit := self._requests.get(verdict.culprit or "")) is not None:
            self._take_out(culprit)
            fault = RequestFault(f"the workers died each time when they computed this request, alone at last: {cause}")
            outputs = [fail(culprit, fault)]
            self._prefixes.forget(culprit)
            self._finish(culprit)
        return outputs, verdict

    def requests_in_flight(self) -> list[AddRequest]:
        """The requests that steps in flight compute, each with its output so far."""
        return [self._requests[name].as_message() for name in self._ids_in_flight() if name in self._requests]

    def _ids_in_flight(self) -> dict[str, None]:
        return dict.fromkeys(entry.request_id for plan in self._in_flight.values() for entry in plan.scheduled)

    def drain_finished(self) -> list[str]:
        """The ids that the workers have yet to forget; the next step carries them, so only that and tests take them."""
        finished_ids, self._finished_ids = self._finished_ids, []
        return finished_ids

    def statistics(self) -> EngineStatistics:
        """A snapshot."""
        num_running_in_gaps = 0
        if num_in_gaps := self._shares.num_in_gaps:
            num_running_in_gaps = sum(request.in_gaps for request in self._running)
        return EngineStatistics(
            num_running=len(self._running) - num_running_in_gaps,
            num_waiting=self.num_waiting - (num_in_gaps - num_running_in_gaps),
            num_in_gaps=num_in_gaps,
            num_used_blocks=self._cache.num_used_blocks,
            num_leased_blocks=self._cache.num_leased_blocks,
            num_blocks=self._cache.num_blocks,
            tenant_costs=self._waiting.costs(),
            total_steps=self._total_steps,
            total_prompt_tokens=self._answers.total_prompt_tokens,
            total_output_tokens=self._answers.total_output_tokens,
            total_preemptions=self._total_preemptions,
            total_prefix_queried_tokens=self._total_prefix_queried_tokens,
            total_prefix_hit_tokens=self._total_prefix_hit_tokens,
            **({} if self._moves is None else self._moves.counts()),
        )

    def check_invariants(self) -> None:
        """Raises AssertionError unless queues, tables and counters agree; the check_invariants setting runs it each step."""
        requests, held = list(self._requests.values()), self._trials.held
        check_invariants(requests, self._running, self._waiting, held, self._cache, self.num_in_flight, self._moves)

    def _has_moves(self) -> bool:
        """Whether a step is needed that computes nothing: to move blocks, or to hear of those that are moved."""
        moves = self._moves
        return moves is not None and (moves.has_news or (moves.is_waiting and not self._in_flight))

    def _is_gap(self) -> bool:
        """Whether all that run or wait (nobody who is held back) fill gaps: the others come first in their order."""
        if self._running and not self._running[0].in_gaps:
            return False
        waiting = self._waiting.first()
        return waiting is None or waiting.in_gaps

    def _schedule_decodes(self, plan: StepPlan) -> list[Request]:
        """Takes the running requests that lack one token, or more than their blocks hold; returns those that lack more.

        With ``async_scheduling`` the one token may be one that a step in flight is still to sample.
        """
        prefills = []
        block_size, runs_ahead = self._cache.block_size, self._runs_ahead
        max_num_decodes = self._max_num_decodes(plan)
        for request in self._running:  # growing may preempt, which takes requests off the end only
            if request.in_gaps and not plan.in_gaps:
                break  # it keeps its blocks, and waits
            position, room = request.num_computed_tokens, len(request.block_ids) * block_size
            num_missing = len(request.token_ids) - position
            if num_missing > 1 and position + num_missing <= room:
                prefills.append(request)
            elif len(plan.scheduled) >= max_num_decodes:
                continue  # the next step has it
            elif plan.budget > 0 and (num_missing > 0 or (runs_ahead and not request.is_ending)):
                num_tokens = 1 if num_missing <= 1 else min(num_missing, plan.budget)
                new_block_ids: list[int] | None = []
                if position + num_tokens > room:
                    new_block_ids = self._grow(request, position + num_tokens, plan)
                if new_block_ids is not None:
                    plan.take(request, num_tokens, new_block_ids)
        return prefills

    def _max_num_decodes(self, plan: StepPlan) -> int:
        """An equal part of those that decode for each stage, so that all have work: a request is in one step at a time."""
        if self._num_stages == 1:
            return len(self._running)
        num_decodes = sum(
            len(request.token_ids) - request.num_computed_tokens <= 1
            for request in self._running
            if request.in_gaps <= plan.in_gaps
        )
        return max(1, -(-num_decodes // self._num_stages))

    def _schedule_prefills(self, plan: StepPlan, prefills: list[Request]) -> None:
        """Takes the next chunk of each prompt, while the budget lasts; its blocks were allocated when it was admitted."""
        for request in prefills:
            num_tokens = self._chunk(plan, request.num_computed_tokens, len(request.token_ids))
            if num_tokens == 0:
                break
            self._take_chunk(plan, request, num_tokens, [])

    def _admit(self, plan: StepPlan) -> None:
        """Takes waiting requests, in the order of the queue, while budget, places and blocks last.

        A request gets the blocks of its whole prompt (and output so far) at once, and only if all that run, itself included,
        are expected to find room until they end: nothing is admitted only to be preempted. Where it does not fit, nothing
        behind it is tried, so a large request is not starved. A request whose prefix is just being computed by another is
        passed over until that step is back, rather than computing it twice. Requests that fill gaps give way to others, and
        leave them a part of the blocks, so that known prefixes outlast a batch.
        """
        if len(self._waiting) == 0:
            return
        crowd = self._forecast.crowd(request for request in self._running if request.in_gaps == plan.in_gaps)
        num_kept = int(_SHARE_OF_OTHERS * self._cache.num_blocks) if plan.in_gaps and self._running else 0
        plans = (*self._in_flight.values(), plan)
        deferred: list[Request] = []
        while plan.budget > 0 and len(deferred) < MAX_NUM_DEFERRED:
            if self._waiting.has_choice:
                self._shares.charge(self._running)
            if (request := self._waiting.first()) is None or request.in_gaps != plan.in_gaps:
                break
            if len(self._running) >= self._settings.max_num_seqs and not self._give_way(plan):
                break
            prefix = self._prefixes.find(request, plans)
            if prefix.is_coming:
                self._waiting.remove(request)
                deferred.append(request)
                continue
            num_known, num_below = len(prefix.block_ids), len(prefix.names_below)
            num_tokens = self._chunk(plan, num_known * self._cache.block_size, len(request.token_ids))
            if num_tokens == 0 and not num_below:
                break
            num_blocks = self._cache.num_blocks_for(len(request.token_ids))
            request.num_own_blocks = num_blocks - num_known
            num_to_spare = max(crowd.num_blocks_to_spare_with(request), num_kept)
            num_now = num_known + num_below if num_below else num_blocks
            num_to_spare += num_blocks - num_now
            while (table := self._cache.allocate_table(prefix.block_ids, num_now, num_to_spare)) is None:
                if not self._give_way(plan):
                    break
            if table is None:
                break
            self._waiting.remove(request)
            if num_below:
                self._prefixes.load(request, table, prefix)
                deferred.append(request)
                continue
            self._start(plan, request, table, num_known)
            self._take_chunk(plan, request, num_tokens, list(table))
        for request in deferred:
            self._waiting.push(request)

    def _start(self, plan: StepPlan, request: Request, table: list[int], num_known_blocks: int) -> None:
        """Moves ``request`` from the queue to the workers."""
        request.status = RequestStatus.RUNNING
        request.admitted_step = plan.step_number
        request.block_ids = table
        request.num_named_blocks = num_known_blocks
        request.num_computed_tokens = num_known_blocks * self._cache.block_size
        request.num_charged_tokens = max(request.num_charged_tokens, request.num_computed_tokens)
        if request.queue_seconds is None:
            now = self._clock()
            request.queue_seconds = max(0.0, now - request.arrival_seconds)
            if request.load_began is not None and request.last_load is not None:
                ended_at = request.last_load.ended_at
                request.load_seconds = max(0.0, (now if ended_at is None else ended_at) - request.load_began)
                request.last_load = None
            request.num_cached_tokens = min(request.num_computed_tokens, request.num_prompt_tokens)
            self._total_prefix_queried_tokens += request.num_prompt_tokens
            self._total_prefix_hit_tokens += request.num_cached_tokens
        if self._moves is not None:
            self._moves.index.touch(request.block_hashes[:num_known_blocks])
        insort(self._running, request, key=order_key)
        plan.new_requests.append(request.for_workers())
        request.num_told_tokens = len(request.token_ids)

    def _chunk(self, plan: StepPlan, position: int, length: int) -> int:
        """How much of a prompt of so many tokens goes into the step, by budget and threshold; 0 where the step is full."""
        num_tokens = self.step_budget.chunk(plan, position, length - position)
        threshold = self._settings.long_prefill_token_threshold
        return min(num_tokens, threshold) if threshold > 0 else num_tokens

    def _take_chunk(self, plan: StepPlan, request: Request, num_tokens: int, new_block_ids: list[int]) -> None:
        position = request.num_computed_tokens
        plan.take(request, num_tokens, new_block_ids)
        self._prefixes.announce(request, plan, position, request.num_computed_tokens)

    def _grow(self, request: Request, num_tokens: int, plan: StepPlan) -> list[int] | None:
        """The blocks that ``request`` lacks for so many tokens, which it gets; None if there are none for it in this step.

        Others are preempted for it, from the end of the order. None if it comes to be the last one itself, and is preempted;
        or if the last one has its last token on the way, and gives its blocks back anyway.
        """
        num_blocks = self._cache.num_blocks_for(num_tokens) - len(request.block_ids)
        while (block_ids := self._cache.allocate_table([], num_blocks, 0)) is None:
            if self._running[-1].is_ending:
                return None
            victim = self._preempt()
            plan.has_preempted = plan.has_preempted or victim.in_gaps == plan.in_gaps
            if victim is request:
                return None
        request.block_ids += block_ids
        request.num_own_blocks += num_blocks
        return block_ids

    def _give_way(self, plan: StepPlan) -> bool:
        """In a step for others: preempts the last of those that fill gaps; whether there was one."""
        is_there = not plan.in_gaps and len(self._running) > 0 and self._running[-1].in_gaps
        if is_there:
            self._preempt()
        return is_there

    def _preempt(self) -> Request:
        """The last of those that run, which waits now."""
        victim = self._running.pop()
        self._total_preemptions += 1
        self._release(victim, RequestStatus.WAITING)
        self._waiting.push(victim)
        return victim

    def _take_out(self, request: Request) -> None:
        """Out of the batch, or wherever it waits."""
        if request.status is RequestStatus.RUNNING:
            self._running.remove(request)
        else:
            self._trials.take_out(request)

    def _finish(self, request: Request) -> None:
        del self._requests[request.request_id]
        self._release(request, RequestStatus.FINISHED)
        self._shares.leave(request)
        self._trials.inquiry.clear(request.request_id)

    def _release(self, request: Request, status: RequestStatus) -> None:
        """Frees all blocks, and lets the workers forget the request: they know those that hold any."""
        self._shares.charge([request])
        if request.block_ids:
            self._finished_ids.append(request.request_id)
            if request.message.leases:
                self._prefixes.lease(request, self._clock())
        self._cache.free(request.block_ids, request.num_own_blocks if request.in_gaps else 0)
        request.leave_workers(status)
