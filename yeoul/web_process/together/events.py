"""JoinedEvents: what the page is fed with by one of several web processes, with what the others know put in; knows no route.

One's own stream sets the pace: each time it tells something the others are asked, and nothing is asked while nobody watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from yeoul.messages.siblings import SiblingAnswer, SiblingQuestion
from yeoul.messages.topology import Topology
from yeoul.web_process.live.page.number_history import POINTS, NumberPoint, NumberPoints
from yeoul.web_process.live.requests.request_follower import RequestChanges
from yeoul.web_process.live.requests.request_summary import RequestList, RequestSummary
from yeoul.web_process.siblings import Siblings
from yeoul.web_process.together.joins import join_requests, join_topologies

Ask = Callable[[SiblingQuestion], Awaitable[list[SiblingAnswer]]]
Struct = TypeVar("Struct", bound=msgspec.Struct)

_NUM_FOLLOWED = 200
_LIVING = ("waiting", "running")
_END = b"\n\n"
_encode = msgspec.json.Encoder().encode


class JoinedEvents:
    """Of one watcher. ``question`` makes one of a path and a query, as this watcher would ask it; ``ask_all`` asks this
    process, too.
    """

    def __init__(self, siblings: Siblings, ask_all: Ask, question: Callable[[str, str], SiblingQuestion]) -> None:
        self._siblings = siblings
        self._ask_all = ask_all
        self._question = question
        self._told: dict[str, RequestSummary] | None = None

    async def join(self, events: bytes) -> bytes:
        """What came of one's own stream, with what is of others in it."""
        own = [_read(event) for event in events.split(_END) if event]
        joined = [await self._join_one(name, data) for name, data in own if name != "requests"]
        if own and (changes := await self._changes()) is not None:
            joined.append(_event("requests", changes))
        return b"".join(joined)

    async def _join_one(self, name: str, data: bytes) -> bytes:
        if name == "topology":
            answers = await self._siblings.ask(self._question("/topology", ""))
            own = msgspec.json.decode(data, type=Topology)
            return _event(name, join_topologies(own, self._siblings.index, _given(answers, Topology)))
        if name == "numbers":
            points = msgspec.json.decode(data, type=NumberPoints).points
            since = b"%d" % (points[0].at - 1)
            answers = await self._siblings.ask(SiblingQuestion("", POINTS, body=since))
            others = [given.points for _, given in _given(answers, NumberPoints)]
            return _event(name, NumberPoints(points=join_points(points, others)))
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)

    async def _changes(self) -> RequestChanges | None:
        answers = await self._ask_all(self._question("/debug/requests", f"limit={_NUM_FOLLOWED}"))
        pages = [page for _, page in _given(answers, RequestList)]
        page = await asyncio.to_thread(lambda: join_requests(pages, _NUM_FOLLOWED, slowest=False))
        before, self._told = self._told, {one.id: one for one in page.data}
        if before is None:
            older_than = page.data[-1].id if page.has_more else None
            return RequestChanges(is_whole=True, data=page.data, older_than=older_than)
        data = [one for one in page.data if _differs(one, before.get(one.id))]
        gone = [name for name, one in before.items() if one.state in _LIVING and name not in self._told]
        return RequestChanges(data=data, gone=gone) if data or gone else None


def join_points(own: Sequence[NumberPoint], others: Iterable[Sequence[NumberPoint]]) -> list[NumberPoint]:
    """Of what the engines did all tell the same, as far as they have heard of it; times are of each one's own requests."""
    joined = {point.at: point for point in own}
    for points in others:
        for point in points:
            if point.at in joined:
                joined[point.at] = _joined(joined[point.at], point)
    return list(joined.values())


def _joined(one: NumberPoint, other: NumberPoint) -> NumberPoint:
    fields = {}
    for name in NumberPoint.__struct_fields__:
        values = [value for value in (getattr(one, name), getattr(other, name)) if value is not None]
        if name.endswith("_p50") and len(values) == 2:  # the medians of two crowds: between them
            fields[name] = round(sum(values) / 2, 6)
        else:
            fields[name] = max(values, default=None)
    return NumberPoint(**fields)


def _differs(now: RequestSummary, before: RequestSummary | None) -> bool:
    return before is None or now != msgspec.structs.replace(before, seconds=now.seconds)


def _read(event: bytes) -> tuple[str, bytes]:
    name, _, data = event.partition(b"\n")
    return name.removeprefix(b"event: ").decode(), data.removeprefix(b"data: ")


def _given(answers: Iterable[SiblingAnswer], kind: type[Struct]) -> list[tuple[int, Struct]]:
    return [(answer.index, msgspec.json.decode(answer.body, type=kind)) for answer in answers if answer.status == 200]


def _event(name: str, data: msgspec.Struct) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(data))
