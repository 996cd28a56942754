"""QueueNotices: tells the streams that want to know it at which place they wait, as long as they do; knows no HTTP.

Called by RequestLog. Nothing is done while nobody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from yeoul.web_process.engine.waiting_room import QueuePlace
from yeoul.web_process.live.requests.logged_request import LoggedRequest
from yeoul.web_process.live.requests.waiting_places import WaitingPlaces

_NUM_AT_A_TIME = 32  # each is something to send: a millisecond or two, after which others have their turn
_PAUSE_SECONDS = 0.005


class QueueNotices:
    """Every ``seconds`` (0: never), to those that have waited for as long. ``requests`` are those that live."""

    def __init__(
        self,
        requests: Mapping[str, LoggedRequest],
        find_places: Callable[[], WaitingPlaces],
        now: Callable[[], float],
        seconds: float,
    ) -> None:
        self._requests = requests
        self._find_places = find_places
        self._now = now
        self._seconds = seconds
        self._is_looking = False

    def begin(self) -> None:
        """Somebody may have to wait."""
        if not self._is_looking and self._seconds > 0:
            self._is_looking = True
            asyncio.get_running_loop().call_later(self._seconds, self._look)

    def _look(self) -> None:
        self._is_looking = False
        wanting = [one for one in self._requests.values() if one.stream.wants_places and not one.begun]
        if any(not one.begun for one in self._requests.values()):
            self.begin()
        waits_since = self._now() - self._seconds
        wanting = [one for one in wanting if one.entered <= waits_since]
        if wanting:
            places = self._find_places()
            self._tell([(one, place) for one in wanting if (place := places.queue_place(one)) is not None])

    def _tell(self, untold: list[tuple[LoggedRequest, QueuePlace]]) -> None:
        for request, place in untold[:_NUM_AT_A_TIME]:
            if not request.begun:
                request.stream.tell_place(place)
        if rest := untold[_NUM_AT_A_TIME:]:
            asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._tell, rest)
