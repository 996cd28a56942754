"""EndedRequests: hands the history what has ended, some at a time, and reads it; knows no engine and no HTTP.

Records are made in the thread of the store, so that streams do not notice. ``RequestLog`` adds.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Callable

import msgspec

from yeoul.errors import UnavailableError
from yeoul.web_process.live.requests.logged_request import LoggedRequest
from yeoul.web_process.live.requests.recorder import Recorder
from yeoul.web_process.live.requests.request_record import RequestRecord
from yeoul.web_process.live.requests.request_summary import RequestSummary, State
from yeoul.web_process.store.request_history import EndedRequest, RequestHistory

logger = logging.getLogger(__name__)

_SECONDS_TO_WRITE = 0.5
_MAX_NUM_UNWRITTEN = 4096

_encode = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(RequestRecord).decode
_decode_summary = msgspec.msgpack.Decoder(RequestSummary).decode


class EndedRequests:
    """Lasts beyond the server where its database does; so it can be suspended, as all such work.

    ``tell`` is called with each record, in the thread of the store.
    """

    def __init__(self, history: RequestHistory, recorder: Recorder) -> None:
        self._history = history
        self._recorder = recorder
        self.tell: Callable[[RequestRecord, LoggedRequest], None] | None = None
        self._unwritten: dict[str, LoggedRequest] = {}
        self._writing: asyncio.Task[None] | None = None
        self._hurries = asyncio.Event()

    def add(self, request: LoggedRequest) -> None:
        """It is closed, and will be written soon; where there are too many, the oldest is forgotten."""
        self._unwritten[request.id] = request
        if len(self._unwritten) > _MAX_NUM_UNWRITTEN:
            del self._unwritten[next(iter(self._unwritten))]
        self._begin()

    def unwritten(self) -> list[RequestSummary]:
        """What has ended just now."""
        return [self._recorder.ended_summary(request) for request in self._unwritten.values()]

    async def page(self, owner: str | None, state: State | None, before: float | None, limit: int) -> list[RequestSummary]:
        """As ``RequestHistory.page``."""
        return list(map(_decode_summary, await self._history.page(owner, state, before, limit)))

    async def slowest(self, owner: str | None, state: State | None, limit: int) -> list[RequestSummary]:
        """As ``RequestHistory.slowest``."""
        return list(map(_decode_summary, await self._history.slowest(owner, state, limit)))

    async def find(self, name: str) -> RequestRecord | None:
        """What is known of the request of this id, or of the last one that its client calls so."""
        for request in reversed(self._unwritten.values()):
            if name in (request.id, request.terms.request_id):
                return self._recorder.with_texts(await asyncio.to_thread(self._recorder.ended, request), request)
        record = await self._history.find(name)
        return None if record is None else self._recorder.with_texts(await asyncio.to_thread(_decode_record, record))

    async def resume(self) -> None:
        """Nothing is taken up here."""

    async def suspend(self) -> None:
        """The server stops: what has ended is written now, and what ends from now on at once."""
        self._hurries.set()
        if self._writing is not None:
            await self._writing

    def _begin(self) -> None:
        if self._writing is None and self._unwritten:
            self._writing = asyncio.create_task(self._write(), name="write_requests", context=contextvars.Context())

    async def _write(self) -> None:
        """What cannot be written is forgotten: the log is not worth a server."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurries.wait(), _SECONDS_TO_WRITE)
        ended = list(self._unwritten.values())
        try:
            await self._history.add(lambda: list(map(self._row, ended)))
        except UnavailableError as error:
            logger.warning("%d requests could not be written down: %s", len(ended), error.message)
        except Exception:
            logger.exception("%d requests could not be written down", len(ended))
        for request in ended:
            self._unwritten.pop(request.id, None)
        self._writing = None
        self._begin()

    def _row(self, request: LoggedRequest) -> EndedRequest:
        record = self._recorder.ended(request)
        self._recorder.note_prompt(request)
        self._recorder.keep_texts(request)
        if self.tell is not None:
            try:
                self.tell(record, request)
            except Exception:
                logger.exception("what became of request %s could not be told", request.id)
        terms, summary = request.terms, record.summary
        return EndedRequest(
            id=request.id,
            name=terms.request_id,
            owner=terms.tenant,
            arrived=summary.arrived,
            state=summary.state,
            summary=_encode(summary),
            record=_encode(record),
            seconds=summary.seconds,
        )
