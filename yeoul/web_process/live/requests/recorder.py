"""Recorder: makes a ``RequestRecord``, plain data, of what was put down while a request ran; knows what processes died.

Called by RequestLog, and by EndedRequests in the thread of the store: what is put down meanwhile is not in the record.
"""

from __future__ import annotations

import time
from collections import deque

import msgspec

from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.live.requests.causes import CauseWalk
from yeoul.web_process.live.requests.logged_request import LoggedRequest
from yeoul.web_process.live.requests.request_record import Outage, RequestRecord
from yeoul.web_process.live.requests.request_summary import RequestSummary
from yeoul.web_process.live.requests.seen_prefixes import SeenPrefixes
from yeoul.web_process.live.requests.send_again import body_of, whole_body_of
from yeoul.web_process.live.requests.shown_bodies import ShownBodies
from yeoul.web_process.live.requests.summarize import state_of_ended, summarize

_NUM_OUTAGES = 64


class Recorder:
    """Of one server: its clocks, its outages, the prompts that it has seen, and bodies that it may show."""

    def __init__(self, llm: AsyncLLM) -> None:
        self._llm = llm
        self._wall_offset = time.time() - time.monotonic()
        self._outages: deque[Outage] = deque(maxlen=_NUM_OUTAGES)
        self._seen = SeenPrefixes()
        self._shown = ShownBodies()

    def wall_time(self, at: float) -> float:
        """A time of the monotonic clock as one of the wall clock."""
        return round(at + self._wall_offset, 6)

    def now(self) -> float:
        """Unix time as it is told here: it never goes back."""
        return time.monotonic() + self._wall_offset

    def note_lost(self, words: str, now: float) -> None:
        """A process died or was found to hang; several until others have taken over are one outage."""
        if not self._outages or self._outages[-1].until is not None:
            self._outages.append(Outage(now, words))

    def note_replaced(self, now: float) -> None:
        """Others have taken over."""
        if self._outages and (outage := self._outages[-1]).until is None:
            outage.until = now

    def note_prompt(self, request: LoggedRequest) -> None:
        """Its prompt was computed: who comes later with the same beginning may find it."""
        if (ready := self._llm.ready) is not None and request.num_output_tokens:
            self._seen.add(request, ready.block_size)

    def ended_summary(self, request: LoggedRequest) -> RequestSummary:
        """What a list says of one that is closed."""
        return summarize(self._llm, request, state_of_ended(request), request.closed or request.arrival)

    def ended(self, request: LoggedRequest) -> RequestRecord:
        """The record of one that is closed."""
        return self.record(request, self.ended_summary(request))

    def record(self, request: LoggedRequest, summary: RequestSummary) -> RequestRecord:
        """The record as of now."""
        num_steps = len(request.steps)
        for step in request.steps[:num_steps]:
            step.split()
        record = self._with_seen(request, self._plain(request, summary, num_steps))
        record.body, record.left_out = body_of(request)
        return record

    def seconds_by_cause(self, request: LoggedRequest, since: float, until: float) -> dict[str, float]:
        """What the time between two moments of the monotonic clock went to, of a request that came then or before."""
        state = "running" if request.stream.ended_at is None else state_of_ended(request)
        summary = summarize(self._llm, request, state, self.wall_time(until))
        summary.arrived = self.wall_time(since)
        walk = CauseWalk(record := self._with_seen(request, self._plain(request, summary, len(request.steps))))
        walk.take(record.steps)
        causes = walk.finish(self.wall_time(until))
        return {name: cause.seconds for name, cause in causes.items()}

    def keep_texts(self, request: LoggedRequest) -> None:
        """Where they may be shown, they can be asked for after its end; they are not a part of the record."""
        self._shown.keep(request)

    def with_texts(self, record: RequestRecord, request: LoggedRequest | None = None) -> RequestRecord:
        """The record with the body as the client sent it, where that is kept; ``request``, where it still lives."""
        body = whole_body_of(request) if request is not None else self._shown.find(record.summary.id)
        return msgspec.structs.replace(record, body=body, left_out=[]) if body else record

    def fold(self, request: LoggedRequest, num_steps: int) -> None:
        """The first steps of a long answer are kept as what they add up to."""
        record = self._plain(request, summarize(self._llm, request, "running", request.entered), num_steps)
        walk = CauseWalk(record)
        walk.take(record.steps)
        request.forget_steps(num_steps, walk.walked)

    def _with_seen(self, request: LoggedRequest, record: RequestRecord) -> RequestRecord:
        """The record with what had been computed of its prompt before."""
        ready = self._llm.ready
        if ready is not None and self._llm.settings.cache.enable_prefix_caching and request.steps:
            record.num_seen_tokens, record.seen_in = self._seen.find(request, ready.block_size)
        return record

    def _plain(self, request: LoggedRequest, summary: RequestSummary, num_steps: int) -> RequestRecord:
        stream = request.stream
        steps = request.steps[:num_steps]
        companies: list[tuple[int, list[str]]] = []
        last: list[str] | None = None
        for step in steps:
            if step.decodes is not last:
                last = step.decodes
                companies.append((step.record.serial, last))
        return RequestRecord(
            summary=summary,
            entered=request.entered,
            read=request.read,
            ended=None if stream.ended_at is None else self.wall_time(stream.ended_at),
            closed=request.closed,
            tokenized=self.wall_time(stream.tokenized_at) if stream.tokenized_at else None,
            error=None if stream.error is None else str(stream.error),
            steps=[step.record for step in steps],
            parts=dict(request.parts),
            companies=companies,
            resumed=dict(request.resumed),
            behind=request.behind,
            outages=[one for one in list(self._outages) if one.until is None or one.until > request.arrival],
            walked=request.walked,
            load_seconds=request.load_seconds,
        )
