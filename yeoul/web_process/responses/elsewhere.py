"""EventsElsewhere: the events of a response that another web process makes, for a reader of this one; knows no HTTP.

They are asked for again and again; each time the other one waits for news. Where it dies, its successor goes on with the
response, and the reader sees a pause.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec

from yeoul.errors import NotFoundError
from yeoul.messages.siblings import SiblingQuestion
from yeoul.web_process.responses.background import BackgroundResponses
from yeoul.web_process.responses.event_log import block_of, read_packed
from yeoul.web_process.responses.kept_responses import KeptResponses
from yeoul.web_process.siblings import Siblings

_NAME = "response_events"
_SECONDS_TO_WAIT = 0.25  # for news, before a sibling says that there are none
_SECONDS_BETWEEN_QUESTIONS = 0.1  # while nobody makes it
_BLANK = b"\n\n"


class _Question(msgspec.Struct, array_like=True):
    owner: str
    response_id: str
    first: int


class _News(msgspec.Struct, array_like=True):
    is_here: bool
    events: bytes = b""
    next: int = 0


class EventsElsewhere:
    """Asks, and answers what others ask of ``background``."""

    def __init__(self, siblings: Siblings, background: BackgroundResponses, kept: KeptResponses) -> None:
        self._siblings = siblings
        self._background = background
        self._kept = kept

    @property
    def name(self) -> str:
        """Under which ``answer`` is asked."""
        return _NAME

    async def answer(self, body: bytes) -> bytes:
        """What has come of a response that is made here."""
        question = msgspec.msgpack.decode(body, type=_Question)
        run = self._background.find(question.owner, question.response_id)
        if run is None:
            return msgspec.msgpack.encode(_News(is_here=False))
        events, following, _ = await run.log.take(question.first, _SECONDS_TO_WAIT)
        return msgspec.msgpack.encode(_News(True, events, following))

    async def read(self, owner: str, response_id: str, first: int, keep_alive_seconds: float) -> AsyncIterator[bytes]:
        """As ``EventLog.read``, until the response is complete, wherever it is made, or is gone."""
        told_at = time.monotonic()
        while True:
            if (run := self._background.find(owner, response_id)) is not None:  # it was taken up here
                async for events in run.log.read(first, keep_alive_seconds):
                    yield events
                return
            news = await self._ask(_Question(owner, response_id, first))
            if news is not None and news.events:
                first, told_at = news.next, time.monotonic()
                yield news.events
            elif time.monotonic() - told_at >= keep_alive_seconds:
                told_at = time.monotonic()
                yield _BLANK
            if news is None:
                try:
                    kept = await self._kept.responses.get(owner, response_id)
                except NotFoundError:
                    return
                if kept.answer is not None:
                    place, blocks = await self._kept.responses.events(response_id, block_of(first))
                    async for events in read_packed(blocks, place, first):
                        yield events
                    return
                await asyncio.sleep(_SECONDS_BETWEEN_QUESTIONS)

    async def _ask(self, question: _Question) -> _News | None:
        answers = await self._siblings.ask(SiblingQuestion("", _NAME, body=msgspec.msgpack.encode(question)))
        news = (msgspec.msgpack.decode(answer.body, type=_News) for answer in answers if answer.status == 200)
        return next((one for one in news if one.is_here), None)
