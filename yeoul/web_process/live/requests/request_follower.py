"""RequestFollower: tells one watcher what is new of the requests that he may see: first all, then what has changed.

Bounded whatever waits: of those that live only the first ones are followed. Knows no HTTP; ``EventFeed`` asks once a second.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from yeoul.web_process.http.openapi import says
from yeoul.web_process.live.requests.request_log import RequestLog
from yeoul.web_process.live.requests.request_summary import RequestSummary, Sight

MAX_NUM_FOLLOWED = 100  # that run, and as many that wait
_NUM_LAST = 100  # of all, at the begin


class RequestChanges(msgspec.Struct, kw_only=True):
    """What is new of requests since the event before."""

    is_whole: Annotated[bool, says("Whether this is all there is to know, in the place of what was told before.")] = False
    data: Annotated[
        list[RequestSummary], says("Those that came, changed or ended; `seconds` alone, which grows, is no change.")
    ]
    gone: Annotated[list[str], says("Those of which nothing more will be told, though they have not ended.")] = []
    older_than: Annotated[
        str | None,
        says("In a whole one, the `before` with which `/debug/requests` lists older ones; null where there are none."),
    ] = None


class RequestFollower:
    """Of one watcher. ``close`` when he leaves: what ends is kept for followers alone."""

    def __init__(self, log: RequestLog, sight: Sight) -> None:
        self._log = log
        self._sight = sight
        self._told: dict[str, RequestSummary] | None = None
        self._ended = log.follow()

    def close(self) -> None:
        """He has left."""
        self._log.unfollow(self._ended)

    async def next(self) -> RequestChanges | None:
        """What is new; None where nothing is."""
        is_first = self._told is None
        ended = {one.id: one for one in self._ended if self._sight.sees(one.tenant)}
        self._ended.clear()
        before, now = self._told or {}, {one.id: one for one in self._log.first(self._sight, MAX_NUM_FOLLOWED)}
        self._told = now
        if is_first:
            page = await self._log.page(self._sight, None, None, _NUM_LAST + 1)
            old = {one.id: one for one in page[:_NUM_LAST] if one.state not in ("waiting", "running")}
            edge = page[_NUM_LAST - 1].id if len(page) > _NUM_LAST else None
            return RequestChanges(is_whole=True, data=list((old | now | ended).values()), older_than=edge)
        data = [one for one in now.values() if one.id not in ended and _differs(one, before.get(one.id))]
        data += ended.values()
        gone = [name for name in before if name not in now and name not in ended]
        return RequestChanges(data=data, gone=gone) if data or gone else None


def _differs(now: RequestSummary, before: RequestSummary | None) -> bool:
    """A watcher has a clock of his own: that time goes by is no news."""
    if before is None:
        return True
    seconds, now.seconds = now.seconds, before.seconds
    is_other = now != before
    now.seconds = seconds
    return is_other
