"""RequestLog: every request that runs or waits, and the last ones that have ended, as the engine's messages tell of them.

Costs a microsecond or so a token: it puts down which step computed what of whom, and thinks about it only when somebody
asks. Knows no HTTP. ``request_routes.py`` asks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from yeoul.messages.outputs import RequestOutput, StepFacts, StepOutputs
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.request_observer import RequestObserver
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.live.engine_clock import EngineClock
from yeoul.web_process.live.logged_request import LoggedRequest, LoggedStep
from yeoul.web_process.live.request_summary import RequestSummary, state_of_ended, summarize
from yeoul.web_process.live.waiting_places import WaitingPlaces

_MAX_NUM_ENDED = 4096
_MAX_NUM_BEHIND = 64
_NUM_RECENT = 256  # that ended last, and may have kept somebody waiting
_NEW = 0.2  # the weight of the last step in what steps of its size take


class RequestLog(RequestObserver):
    """Of one ``AsyncLLM``, on its event loop.

    ``live`` are those that are unfinished or still read, by id, in the order in which they came.
    """

    def __init__(self, llm: AsyncLLM, clock: Callable[[], float] = time.monotonic) -> None:
        self.live: dict[str, LoggedRequest] = {}
        self._llm = llm
        self._clock = clock
        self._wall_offset = time.time() - time.monotonic()
        self._engine_clock = EngineClock()
        self._by_engine_id: dict[str, LoggedRequest] = {}
        self._running: dict[LoggedRequest, None] = {}
        self._recent: deque[LoggedRequest] = deque(maxlen=_NUM_RECENT)
        self._ended: deque[RequestSummary] = deque(maxlen=_MAX_NUM_ENDED)
        self._decode_seconds: dict[int, float] = {}
        self._last_end = 0.0
        self._num_steps = 0

    def wall_time(self, at: float) -> float:
        """A time of the monotonic clock as one of the wall clock."""
        return round(at + self._wall_offset, 6)

    def entered(self, stream: RequestStream, terms: ServiceTerms, arrival: float) -> None:
        """See ``RequestObserver``."""
        request = LoggedRequest(stream, terms, arrival, self._clock())
        self.live[request.id] = request
        for engine_id in stream.engine_request_ids:
            self._by_engine_id[engine_id] = request

    def stepped(self, message: StepOutputs) -> None:
        """See ``RequestObserver``."""
        now = self._clock()
        if message.sent:
            self._engine_clock.note(message.sent, now)
        start = 0
        for facts in message.steps:
            self._note_step(facts, message.outputs[start : start + facts.num_outputs])
            start += facts.num_outputs
        for output in message.outputs:
            if (request := self._by_engine_id.get(output.request_id)) is not None:
                request.note_output(output, now)
        for engine_id in message.begun:
            if (request := self._by_engine_id.get(engine_id)) is not None:
                self._note_begun(request, engine_id)

    def _note_step(self, facts: StepFacts, outputs: list[RequestOutput]) -> None:
        find = self._by_engine_id.get
        end = self._engine_clock.here(facts.started) + facts.seconds
        at = min(end, max(self._last_end, end - facts.seconds))  # one that was handed out ahead began when the last one ended
        self._last_end = end
        self._num_steps += 1
        step = LoggedStep(self._num_steps, facts.number, at, end - at, facts.num_tokens, facts.num_requests)
        of_prompts = dict(facts.prompts)
        for engine_id, num_tokens in of_prompts.items():
            step.num_prompt_tokens += num_tokens
            if (request := find(engine_id)) is not None:
                step.prompts.append((request, num_tokens))
                request.note_step(step, num_tokens, 0)
        for output in outputs:
            if output.request_id not in of_prompts and (request := find(output.request_id)) is not None:
                step.decodes.append(request)
                request.note_step(step, 0, 1)
        self._note_decode_seconds(step, facts.num_requests - len(of_prompts))

    def _note_decode_seconds(self, step: LoggedStep, num_decodes: int) -> None:
        """By the power of two: what so many decodes take where nobody's prompt is beside them."""
        size = num_decodes.bit_length()
        known = self._decode_seconds
        if num_decodes and not step.prompts:
            known[size] = step.seconds if size not in known else (1 - _NEW) * known[size] + _NEW * step.seconds
        elif num_decodes:
            smaller = max((other for other in known if other <= size), default=min(known, default=0))
            step.decode_seconds = known.get(smaller)

    def _note_begun(self, request: LoggedRequest, engine_id: str) -> None:
        if not request.begun:
            before = [one for one in (*self._running, *self._recent) if one.computed_until > request.entered]
            request.behind = before[:_MAX_NUM_BEHIND]
            self._running[request] = None
        request.note_begun(engine_id)

    def closed(self, stream: RequestStream) -> None:
        """See ``RequestObserver``."""
        request = self.live.pop(stream.request_id, None)
        if request is None:
            return
        request.closed = self._clock()
        for engine_id in stream.engine_request_ids:
            self._by_engine_id.pop(engine_id, None)
        if request in self._running:
            del self._running[request]
            self._recent.append(request)
        self._ended.append(summarize(request, state_of_ended(request), request.closed, self.wall_time))

    def summaries(self) -> list[RequestSummary]:
        """All, those that came last first; places are as of now."""
        places = WaitingPlaces(self._llm, self.live.values(), self._num_steps)
        now = self._clock()
        live = [places.summary(request, now, self.wall_time) for request in self.live.values()]
        return sorted([*live, *self._ended], key=lambda summary: summary.arrived, reverse=True)
