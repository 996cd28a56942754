"""EventFeed: what changes in the running system, as server-sent events, once a second and at once after an incident.

Each watcher's stream looks by itself, so nothing is done while nobody watches, and who reads slowly is told less often.
Knows no route; ``event_routes.py`` hands the streams out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from yeoul.errors import UnavailableError
from yeoul.messages.topology import Incident
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.live.page.number_history import NumberHistory, NumberPoints
from yeoul.web_process.live.requests.request_follower import RequestFollower
from yeoul.web_process.live.requests.request_log import RequestLog
from yeoul.web_process.live.requests.request_summary import Sight
from yeoul.web_process.live.topology.topology_watch import TopologyWatch

MAX_NUM_WATCHERS = 8

_SECONDS_BETWEEN_EVENTS = 1.0
_encode = msgspec.json.Encoder().encode


class EventFeed:
    """Of one server; it looks at ``watch``, ``numbers`` and ``requests``."""

    def __init__(self, llm: AsyncLLM, watch: TopologyWatch, numbers: NumberHistory, requests: RequestLog) -> None:
        self._llm = llm
        self._watch = watch
        self._numbers = numbers
        self._requests = requests
        self._num_watchers = 0

    def open(self, sight: Sight) -> AsyncIterator[bytes]:
        """A stream for one watcher, who may see these requests.

        Raises:
            UnavailableError: there are as many as there may be.
        """
        if self._num_watchers >= MAX_NUM_WATCHERS:
            raise UnavailableError(
                f"{MAX_NUM_WATCHERS} watch already, and no more may; close a page that nobody looks at", retry_after_seconds=5
            )
        return self._stream(sight)

    async def _stream(self, sight: Sight) -> AsyncIterator[bytes]:
        incidents: list[Incident] = []
        happened = asyncio.Event()

        def note(incident: Incident) -> None:
            incidents.append(incident)
            happened.set()

        self._llm.engines.incidents.listeners.append(note)
        self._num_watchers += 1
        told_until = 0
        follower = RequestFollower(self._requests, sight)
        try:
            while not self._is_over():
                happened.clear()
                events = [_event("incident", incident) for incident in incidents]
                incidents.clear()
                events.append(_event("topology", await self._watch.look()))
                if points := self._numbers.since(told_until):
                    told_until = points[-1].at
                    events.append(_event("numbers", NumberPoints(points=points)))
                if (changes := await follower.next()) is not None:
                    events.append(_event("requests", changes))
                yield b"".join(events)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(happened.wait(), _SECONDS_BETWEEN_EVENTS)
        finally:
            self._num_watchers -= 1
            follower.close()
            self._llm.engines.incidents.listeners.remove(note)

    def _is_over(self) -> bool:
        """Whether the server is about to end, which waits for its streams."""
        is_ending = self._llm.requests.is_closed or self._llm.drain_is_announced  # also of a model that sleeps
        return self._llm.state == "dead" or (is_ending and self._llm.num_unfinished == 0)


def _event(name: str, data: msgspec.Struct) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(data))
