"""WaitingPlaces: who waits, at which place, how long about, and why; as of one moment, without asking the engine.

The order is the scheduler's as far as the web process knows it: between tenants it is about, since it goes by what those
that are before will have had, and nobody knows how long their answers become. Knows no route. ``RequestLog`` makes one when
somebody asks.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Mapping

from yeoul.messages.statistics import OUTPUT_TOKEN_COST
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.waiting_room import QueuePlace
from yeoul.web_process.live.requests.logged_request import LoggedRequest
from yeoul.web_process.live.requests.request_summary import RequestSummary
from yeoul.web_process.live.requests.summarize import state_of_ended, summarize

_FEW_STEPS = 3  # that one in the batch may be left out of: a step that was full, one that was ahead


def taken_seats(llm: AsyncLLM) -> int | None:
    """The places in the steps, where all are taken: then who waits needs one to be left."""
    most = llm.max_num_running
    return most if llm.statistics.num_running >= most else None


class WaitingPlaces:
    """``num_steps`` of each engine have come back until now."""

    def __init__(self, llm: AsyncLLM, requests: Collection[LoggedRequest], num_steps: Mapping[int, int]) -> None:
        self._llm = llm
        self._num_steps = num_steps
        self._by_priority = llm.settings.scheduler.scheduling_policy == "priority"
        waiting = sorted(filter(self._waits, requests), key=self._order)
        if len({request.terms.tenant for request in waiting}) > 1:
            waiting = self._in_turns(waiting)
        self._places = {request: place for place, request in enumerate(waiting, 1)}

    def has(self, request: LoggedRequest) -> bool:
        """Whether it waits."""
        return request in self._places

    def in_order(self) -> Iterable[LoggedRequest]:
        """Those that wait, who is next first."""
        return self._places

    def summary(self, request: LoggedRequest, now: float) -> RequestSummary:
        """A request that is unfinished or still read."""
        if request.stream.ended_at is not None:
            return summarize(self._llm, request, state_of_ended(request), now)
        place = self._places.get(request)
        summary = summarize(self._llm, request, "running" if place is None else "waiting", now)
        if place is not None:
            expected = self._expected(place)
            summary.place = place
            summary.expected_wait_seconds = None if expected is None else round(expected, 3)
            summary.why_it_waits = self._why(request, place)
        return summary

    def queue_place(self, request: LoggedRequest) -> QueuePlace | None:
        """The place of one that waits; None of one that does not."""
        if (place := self._places.get(request)) is None:
            return None
        expected = self._expected(place)
        return QueuePlace(place, None if expected is None else round(expected, 1))

    def _expected(self, place: int) -> float | None:
        """While the engine recovers, or is not there, nothing is."""
        llm = self._llm
        if llm.lost is not None or llm.ready is None:
            return None
        return llm.waiting_room.expected_wait(place, taken_seats(llm))

    def _waits(self, request: LoggedRequest) -> bool:
        if request.stream.ended_at is not None:
            return False
        return not request.begun or self._lost(request) is not None or self._has_fallen_out(request)

    def _lost(self, request: LoggedRequest) -> str | None:
        """Which process is missing that it needs; of several engines, of all that have it."""
        if (slots := self._llm.engines.of_requests(request.stream.engine_request_ids)) and self._llm.lost is None:
            missing = [slot.recovery.lost for slot in slots]
            return None if None in missing else missing[0]
        return self._llm.lost

    def _has_fallen_out(self, request: LoggedRequest) -> bool:
        if not request.steps:
            return False
        last = request.steps[-1]
        return self._num_steps[last.engine] - last.place > _FEW_STEPS

    def _order(self, request: LoggedRequest) -> tuple[bool, int, bool, float]:
        priority = request.terms.priority if self._by_priority else 0
        return request.terms.in_gaps, priority, request.num_output_tokens == 0, request.arrival

    def _in_turns(self, waiting: list[LoggedRequest]) -> list[LoggedRequest]:
        """Those of several tenants: of the first ones in their lines, next is that of the tenant who has had the least."""
        costs = dict(self._llm.statistics.tenant_costs)
        least = min(costs.values(), default=0)
        lines: dict[str, deque[LoggedRequest]] = {}
        for request in waiting:
            lines.setdefault(request.terms.tenant, deque()).append(request)
            costs.setdefault(request.terms.tenant, least)

        def first_of(line: deque[LoggedRequest]) -> tuple[bool, int, bool, int, float, str]:
            in_gaps, priority, is_new, arrival = self._order(line[0])
            tenant = line[0].terms.tenant
            return in_gaps, priority, is_new, costs[tenant], arrival, tenant

        heads = [first_of(line) for line in lines.values()]
        heapq.heapify(heads)
        in_turns = []
        while heads:
            tenant = heads[0][-1]
            line = lines[tenant]
            in_turns.append(line.popleft())
            costs[tenant] += self._cost_of(in_turns[-1])
            if line:
                heapq.heapreplace(heads, first_of(line))
            else:
                heapq.heappop(heads)
        return in_turns

    def _cost_of(self, request: LoggedRequest) -> int:
        """What its tenant will have had for it, as far as one can tell."""
        most, mean = request.stream.sampling.max_tokens, self._llm.waiting_room.mean_answer_tokens
        return request.stream.num_prompt_tokens + OUTPUT_TOKEN_COST * round(min(mean, most or mean))

    def _why(self, request: LoggedRequest, place: int) -> str:
        if (lost := self._lost(request)) is not None:
            return f"the engine recovers ({lost}); it goes on where it was as soon as there are new processes"
        if self._llm.ready is None or (self._llm.requests.holds_new and request.stream.ended_at is None):
            return "its model is not in memory: it is being loaded, or waits until others have made room"
        if request.terms.in_gaps:
            return "it is of a batch, which is computed while nobody else runs or waits"
        if request.steps:
            return "it was preempted: it gave its blocks of the KV cache to others, and goes on when there is room again"
        ahead = "nobody is" if place == 1 else "1 request is" if place == 2 else f"{place - 1} requests are"
        return f"{self._lack(request)}; {ahead} ahead of it"

    def _lack(self, request: LoggedRequest) -> str:
        """What there is too little of."""
        now, ready, most = self._llm.statistics, self._llm.ready, self._llm.max_num_running
        if now.num_running >= most:
            return f"all {most} places of a step are taken (--max-num-seqs)"
        num_free = now.num_blocks - now.num_used_blocks
        if ready is not None and (num_needed := -(-request.stream.num_prompt_tokens // ready.block_size)) > num_free > 0:
            return f"its prompt needs {num_needed} blocks of the KV cache, and {num_free} are free"
        if now.num_blocks and now.num_used_blocks * 2 > now.num_blocks:
            share = now.num_used_blocks / now.num_blocks
            return f"the KV cache ({share:.0%} of it in use) is kept for what those that run are expected to need"
        return "the steps until now were full, or the first one is on its way"
