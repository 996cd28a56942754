"""RequestLog: every request that runs or waits, and the last ones that have ended, as the engine's messages tell of them.

Costs half a microsecond or so a token: it puts down which step computed what of whom, and thinks about it only when somebody
asks, or, in the thread of the store, when a request has ended. Knows no HTTP. ``request_routes.py`` asks.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict, deque

from yeoul.engines.incidents import DeathCause
from yeoul.messages.outputs import RequestOutput, StepFacts, StepOutputs
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.request_observer import RequestObserver
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.live.requests.ended_requests import EndedRequests
from yeoul.web_process.live.requests.engine_clock import EngineClock
from yeoul.web_process.live.requests.logged_request import LoggedRequest, LoggedStep
from yeoul.web_process.live.requests.queue_notices import QueueNotices
from yeoul.web_process.live.requests.recorder import Recorder
from yeoul.web_process.live.requests.request_record import RecordedStep, RequestRecord
from yeoul.web_process.live.requests.request_summary import RequestSummary, Sight, State
from yeoul.web_process.live.requests.timed_request import TimedRequest
from yeoul.web_process.live.requests.waiting_places import WaitingPlaces, taken_seats

_MAX_NUM_BEHIND = 64
_NUM_RECENT = 256  # that ended last, and may have kept somebody waiting
_MAX_NUM_STEPS = 4096  # of a request that are kept one by one; of those before, what they add up to
_NUM_STEPS_TO_FOLD = 256
_NEW = 0.2  # the weight of the last step in what steps of its size take


class _Lane:
    """When an engine's last step ended, and how many there were."""

    __slots__ = ("last_end", "num_steps")

    def __init__(self) -> None:
        self.last_end = 0.0
        self.num_steps = 0


class RequestLog(RequestObserver):
    """Of one ``AsyncLLM``, on its event loop.

    ``live`` are those that are unfinished or still read, by id, in the order in which they came.
    """

    def __init__(self, llm: AsyncLLM, recorder: Recorder, ended: EndedRequests) -> None:
        self.live: dict[str, LoggedRequest] = {}
        self._llm = llm
        self._recorder = recorder
        self._ended = ended
        self._engine_clock = EngineClock()
        self._by_engine_id: dict[str, LoggedRequest] = {}
        self._running: dict[LoggedRequest, None] = {}
        self._recent: deque[tuple[str, float]] = deque(maxlen=_NUM_RECENT)
        self._decode_seconds: dict[int, float] = {}
        self._last_decodes: list[str] = []
        self._lanes: defaultdict[int, _Lane] = defaultdict(_Lane)  # of each engine
        self._num_steps = 0
        self._followers: list[deque[RequestSummary]] = []
        self._num_waiting = 0
        seconds = llm.settings.time.queue_notice_seconds
        self._notices = QueueNotices(self.live, self._places, recorder.now, seconds)

    # What AsyncLLM tells

    def entered(self, stream: RequestStream, terms: ServiceTerms, arrival: float) -> None:
        """See ``RequestObserver``."""
        wall_time = self._recorder.wall_time
        account = terms.account
        read = None if account is None or account.read_at is None else wall_time(account.read_at)
        request = LoggedRequest(stream, terms, wall_time(arrival), wall_time(stream.entered_at), read)
        self._num_waiting += 1
        if account is not None:
            account.add(TimedRequest(request, self._recorder))
            if account.queue_place is None:
                account.queue_place = self._llm.waiting_room.queue_place(self._num_waiting, taken_seats(self._llm))
        self._notices.begin()
        self.live[request.id] = request
        for engine_id in stream.engine_request_ids:
            self._by_engine_id[engine_id] = request

    def stepped(self, message: StepOutputs) -> None:
        """See ``RequestObserver``."""
        now = self._recorder.now()
        if message.sent:
            self._engine_clock.note(message.sent, now)
        outputs, start, find = message.outputs, 0, self._by_engine_id.get
        for facts in message.steps:
            end = start + facts.num_outputs
            self._note_step(facts, outputs[start:end], now, message.engine)
            start = end
        for engine_id in message.begun:
            if (request := find(engine_id)) is not None:
                self._note_begun(request, engine_id)

    def _note_step(self, facts: StepFacts, outputs: list[RequestOutput], now: float, engine: int) -> None:
        find = self._by_engine_id.get
        end = self._engine_clock.here(facts.started) + facts.seconds
        at = end - facts.seconds
        lane = self._lanes[engine]
        if at < lane.last_end:  # one that was handed out ahead began when the last one ended
            at = min(end, lane.last_end)
        lane.last_end = end
        lane.num_steps += 1
        self._num_steps += 1
        of_prompts, num_tokens = dict(facts.prompts), facts.num_tokens
        num_decodes, num_of_prompts = max(0, facts.num_requests - len(of_prompts)), sum(of_prompts.values())
        record = RecordedStep(
            self._num_steps, facts.number, at, end - at, num_tokens, facts.num_requests, num_decodes, num_of_prompts
        )
        decodes: list[str] = []
        step = LoggedStep(record, decodes, facts.parts, engine, lane.num_steps)
        for engine_id, num_tokens in of_prompts.items():
            if (request := find(engine_id)) is not None:
                record.prompts.append((request.id, num_tokens))
                request.note_step(step, num_tokens, 0)
        for output in outputs:  # once a token: nothing here that could be done later
            if (request := find(output.request_id)) is not None:
                if output.request_id not in of_prompts:
                    decodes.append(request.id)
                    steps = request.steps
                    if request.is_plain and steps and steps[-1] is not step:
                        steps.append(step)
                    else:
                        request.note_step(step, 0, 1)
                if request.first_token_at is None or output.num_cached_tokens:
                    request.note_first(output, now)
                request.num_output_tokens += len(output.new_token_ids)
        if decodes != self._last_decodes:  # most steps have those of the step before: one list for all of them
            self._last_decodes = decodes
        step.decodes = self._last_decodes
        self._note_decode_seconds(record)
        if self._num_steps % _NUM_STEPS_TO_FOLD == 0:
            for request in self._running:
                if len(request.steps) > _MAX_NUM_STEPS:
                    self._recorder.fold(request, len(request.steps) - _MAX_NUM_STEPS)

    def _note_decode_seconds(self, step: RecordedStep) -> None:
        """By the power of two: what so many decodes take where nobody's prompt is beside them."""
        size, known = step.num_decodes.bit_length(), self._decode_seconds
        if size and not step.num_prompt_tokens:
            known[size] = step.seconds if size not in known else (1 - _NEW) * known[size] + _NEW * step.seconds
        elif size and known:
            step.decode_seconds = known[max((other for other in known if other <= size), default=min(known))]

    def _note_begun(self, request: LoggedRequest, engine_id: str) -> None:
        is_again = engine_id in request.begun
        if is_again or not request.begun:
            since = request.computed_until if is_again else request.entered
            running = [(one.id, one.computed_until) for one in self._running if one is not request]
            others = [name for name, until in (*running, *self._recent) if until > since]
            if is_again:
                request.note_resumption(others[:_MAX_NUM_BEHIND])
            else:
                request.behind = others[:_MAX_NUM_BEHIND]
                request.stream.take_place()  # it waits no longer
                self._num_waiting -= 1
            self._running[request] = None
        request.begun.add(engine_id)

    def lost(self, role: str, cause: DeathCause) -> None:
        """See ``RequestObserver``."""
        self._recorder.note_lost(self._llm.lost or f"{role} died", self._recorder.now())
        if role == "EngineCore":
            self._engine_clock.forget()

    def replaced(self, seconds: float) -> None:
        """See ``RequestObserver``."""
        self._recorder.note_replaced(self._recorder.now())

    def closed(self, stream: RequestStream) -> None:
        """See ``RequestObserver``."""
        request = self.live.pop(stream.request_id, None)
        if request is None:
            return
        request.closed = self._recorder.now()
        self._num_waiting -= not request.begun
        for engine_id in stream.engine_request_ids:
            self._by_engine_id.pop(engine_id, None)
        if request in self._running:
            del self._running[request]
            self._recent.append((request.id, request.computed_until))
        if self._followers:
            summary = self._recorder.ended_summary(request)
            for ended in self._followers:
                ended.append(summary)
        self._ended.add(request)

    # What is asked

    async def page(
        self, sight: Sight, state: State | None, before: str | None, limit: int, edge: float | None = None
    ) -> list[RequestSummary]:
        """Those that may be seen, in this state, behind the one of the id ``before``; those that came last first.

        ``edge`` is when that one came, where somebody knows it already.
        """
        if edge is None and before is not None:
            edge = await self._arrival_of(before)

        def is_wanted(one: RequestSummary) -> bool:
            return sight.sees(one.tenant) and state in (None, one.state) and (edge is None or one.arrived < edge)

        places, now = self._places(), self._recorder.now()
        last_first = sorted(self.live.values(), key=lambda request: request.arrival, reverse=True)
        here = (places.summary(request, now) for request in last_first)
        seen = [*itertools.islice(filter(is_wanted, here), limit), *filter(is_wanted, self._ended.unwritten())]
        if state not in ("waiting", "running"):
            seen += await self._ended.page(sight.owner, state, edge, limit)
        known = {one.id: one for one in reversed(seen)}  # what has been written meanwhile is there twice
        return sorted(known.values(), key=lambda one: one.arrived, reverse=True)[:limit]

    async def slowest(self, sight: Sight, state: State | None, limit: int) -> list[RequestSummary]:
        """Those that took longest, of all that live and of the slowest that are kept."""
        places, now = self._places(), self._recorder.now()
        here = [*(places.summary(request, now) for request in self.live.values()), *self._ended.unwritten()]
        seen = [one for one in here if sight.sees(one.tenant) and state in (None, one.state)]
        if state not in ("waiting", "running"):
            seen += await self._ended.slowest(sight.owner, state, limit)
        known = {one.id: one for one in reversed(seen)}
        return sorted(known.values(), key=lambda one: one.seconds, reverse=True)[:limit]

    def first(self, sight: Sight, limit: int) -> list[RequestSummary]:
        """Of those that are unfinished, or still read, the ones that came last; of those that wait, whose turn comes first.

        At most ``limit`` of each.
        """
        places, now = self._places(), self._recorder.now()
        may_see = [request for request in reversed(self.live.values()) if sight.sees(request.terms.tenant)]
        others = (request for request in may_see if not places.has(request))
        waiting = (request for request in places.in_order() if sight.sees(request.terms.tenant))
        chosen = itertools.chain(itertools.islice(others, limit), itertools.islice(waiting, limit))
        return [places.summary(request, now) for request in chosen]

    def follow(self) -> deque[RequestSummary]:
        """Gains what ends from now on, the last ones where nobody takes them out."""
        ended: deque[RequestSummary] = deque(maxlen=_NUM_RECENT)
        self._followers.append(ended)
        return ended

    def unfollow(self, ended: deque[RequestSummary]) -> None:
        """Nobody follows there any longer."""
        self._followers = [one for one in self._followers if one is not ended]

    def _places(self) -> WaitingPlaces:
        return WaitingPlaces(self._llm, self.live.values(), {engine: lane.num_steps for engine, lane in self._lanes.items()})

    async def find(self, name: str) -> RequestRecord | None:
        """What is known of the request of this id, or of the last one that its client calls so."""
        request = self.live.get(name) or next(
            (one for one in reversed(self.live.values()) if one.terms.request_id == name), None
        )
        if request is None:
            return await self._ended.find(name)
        places, now = self._places(), self._recorder.now()
        summary = places.summary(request, now)
        return self._recorder.with_texts(await asyncio.to_thread(self._recorder.record, request, summary), request)

    async def _arrival_of(self, name: str) -> float | None:
        record = await self.find(name)
        return None if record is None else record.summary.arrived
