"""WaitingRoom: bounds the requests that wait for their first token, shares the room between tenants, and guesses waits.

Knows requests by id, number of tokens and tenant; nothing of HTTP, sockets or the engine. ``RequestTable`` holds it.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from yeoul.config.settings import Settings
from yeoul.errors import InvalidRequestError, TooManyRequestsError

_MAX_RETRY_AFTER_SECONDS = 60
_SECONDS_A_REQUEST = 1.0  # where nothing is known yet
_HALF_LIFE_SECONDS = 10.0  # after so long an observation counts half
_SAFE_SHARE = 0.8  # of a deadline: what is expected is a mean, and half of all take longer


class RoomLeft(NamedTuple):
    """How many requests, and tokens of their prompts, may wait, and how many of them could come now."""

    most_requests: int
    requests: int
    most_tokens: int
    tokens: int


class QueuePlace(NamedTuple):
    """A place among those that wait, from 1, and the seconds until it is served, by how fast others were; None: not known."""

    place: int
    expected_seconds: float | None


class WaitingRoom:
    """Room for so many requests, and so many tokens of their prompts; see ``_Room`` for how tenants share it.

    Args:
        max_num_requests: how many requests may wait.
        max_num_tokens: how many tokens their prompts may have together; a prompt of more may wait alone.
        num_tenants: between how many the room is shared.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        max_num_requests: int,
        max_num_tokens: int,
        num_tenants: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests = _Room(max_num_requests, num_tenants)
        self._tokens = _Room(max_num_tokens, num_tenants)
        self._waiting: dict[Hashable, tuple[str, int, int]] = {}
        self._clock = clock
        self._last_served = self._last_answer = clock()
        self._request_seconds = _RecentRatio()  # from one that is served to the next, while somebody waits
        self._prompt_token_seconds = _RecentRatio()
        self._answer_seconds = _RecentRatio()  # from one that is complete to the next, while somebody is there
        self._answer_lengths = _RecentRatio()
        self._seat_seconds = _RecentRatio()  # for which one that is complete had its place in the steps

    @classmethod
    def for_server(cls, settings: Settings) -> WaitingRoom:
        """The room that the settings want; an API key is a tenant."""
        limits, num_keys = settings.scheduler, len(settings.server.api_key)
        return cls(limits.max_num_waiting_requests, limits.max_num_waiting_tokens, max(1, num_keys))

    @property
    def most_requests(self) -> int:
        """How many requests of one tenant may wait."""
        return self._requests.most

    @property
    def most_tokens(self) -> int:
        """How many tokens the prompts of one tenant may have that wait: a guess of more would refuse for ever."""
        return self._tokens.most

    def left(self, tenant: str) -> RoomLeft:
        """For a tenant, now."""
        requests, tokens = self._requests, self._tokens
        return RoomLeft(requests.most, requests.num_left(tenant), tokens.most, tokens.num_left(tenant))

    def check(self, tenant: str, num_requests: int, num_tokens: int) -> None:
        """Whether so many more requests, with prompts of so many tokens together, find room.

        Raises:
            InvalidRequestError: so many could not even wait in an empty room.
            TooManyRequestsError: there is no room for them now.
        """
        if num_requests > self._requests.most:
            raise InvalidRequestError(
                f"this request asks for {num_requests} answers (prompts times n); at most {self._requests.most} can wait at a"
                " time: ask for fewer",
                param="n",
            )
        if num_requests > 1 and num_tokens > self._tokens.most:
            raise InvalidRequestError(
                f"this request asks for {num_requests} answers to prompts of {num_tokens} tokens together (prompts times n);"
                f" at most {self._tokens.most} can wait at a time: ask for fewer",
                param="n",
            )
        num_beyond = self._requests.num_beyond(tenant, num_requests)
        if num_beyond > 0:
            wait = num_beyond * (self._request_seconds.value or _SECONDS_A_REQUEST)
            raise _queue_is_full(f"{self._requests.num_all} requests wait", self._requests, num_requests, wait)
        num_tokens = min(num_tokens, self._tokens.most)
        num_beyond = self._tokens.num_beyond(tenant, num_tokens)
        if num_beyond > 0:
            wait = num_beyond * (self._prompt_token_seconds.value or 0.0)
            raise _queue_is_full(f"prompts of {self._tokens.num_all} tokens wait", self._tokens, num_tokens, wait)

    def check_deadline(self, deadline_seconds: float, max_tokens: int, num_unfinished: int) -> None:
        """Whether a request should be done within so many seconds, by how fast answers were completed lately.

        As many as are in the engine are completed in the time that one of them takes (Little's law), whether they are
        computed side by side or one after the other. One that asks for less than others takes less, once its turn has come.

        Raises:
            TooManyRequestsError: it would only cost time that others need.
        """
        if num_unfinished == 0 or self._answer_seconds.value is None:
            return
        num_waiting = self._requests.num_own
        share = min(1.0, max_tokens / max(1.0, self._answer_lengths.value or 1.0))
        expected = (num_waiting + (num_unfinished - num_waiting + 1) * share) * self._answer_seconds.value
        if expected > _SAFE_SHARE * deadline_seconds:
            raise TooManyRequestsError(
                f"{num_unfinished} requests are in the engine or wait; beside them this one would take about {expected:.1f}"
                f" s, which is too near to the {deadline_seconds:g} s that it has: try again later",
                retry_after_seconds=_retry_after(expected - _SAFE_SHARE * deadline_seconds),
            )

    def expected_wait(self, place: int, num_seats: int | None = None) -> float | None:
        """Seconds until the request at this place of the queue, from 1, gets something, by how fast others did of late.

        Where all of ``num_seats`` places in the steps are taken, one has to be left for each, as answers become complete.
        """
        since_last = self._clock() - self._last_served
        if num_seats:
            if self._seat_seconds.value is None:  # those that were served found a free one, which says nothing of now
                return None
            interval = self._seat_seconds.value / num_seats
            # One that takes longer than others do as a rule will take about as long again as it is late.
            return (place - 1) * interval + max(interval - since_last, interval / 2, since_last - interval)
        if self._request_seconds.value is None:
            return None
        return place * max(self._request_seconds.value, since_last)  # nobody was of late

    @property
    def mean_answer_tokens(self) -> float:
        """How long the answers of late were."""
        return self._answer_lengths.value or 0.0

    def queue_place(self, place: int, num_seats: int | None = None) -> QueuePlace:
        """The place with what is expected of it, to a tenth of a second."""
        expected = self.expected_wait(place, num_seats)
        return QueuePlace(place, None if expected is None else round(expected, 1))

    def enter(self, who: Hashable, tenant: str, num_tokens: int, *, num_requests: int = 1, is_alone: bool) -> None:
        """A request, or a ticket for several, waits from now on; ``is_alone`` if there is no other unfinished one."""
        if not self._waiting:
            self._last_served = self._clock()  # that nobody waited says nothing of how fast requests are served
        if is_alone:
            self._last_answer = self._clock()
        self._waiting[who] = (tenant, num_requests, num_tokens)
        self._requests.add(tenant, num_requests)
        self._tokens.add(tenant, num_tokens)

    def note_engine(self, *, is_idle: bool) -> None:
        """Who waited for an engine is served from now on: that nobody was meanwhile says nothing of how fast it goes.

        ``is_idle`` if none was computed beside them.
        """
        self._last_served = self._clock()
        if is_idle:
            self._last_answer = self._last_served

    def note_served(self, request_ids: Iterable[str]) -> None:
        """These have got something; for those that waited, it is the first. Ids of others are ignored."""
        if not self._waiting:
            return
        num_requests, num_tokens = self._take_out(request_ids)
        if num_requests:
            now = self._clock()
            seconds, self._last_served = now - self._last_served, now
            self._request_seconds.note(seconds, num_requests, now)
            self._prompt_token_seconds.note(seconds, num_tokens, now)

    def note_others(self, waiting: Mapping[str, tuple[int, int]]) -> None:
        """So many requests, and tokens of their prompts, wait at other doors of the same room now, by tenant."""
        self._requests.note_others({tenant: num_requests for tenant, (num_requests, _) in waiting.items()})
        self._tokens.note_others({tenant: num_tokens for tenant, (_, num_tokens) in waiting.items()})

    def note_gone(self, them: Iterable[Hashable]) -> None:
        """These have ended or were given up; those that do not wait are ignored."""
        self._take_out(them)

    def note_answers(self, lengths: Sequence[int], seat_seconds: float = 0.0) -> None:
        """Answers of these lengths, in tokens, are complete, which had their places for so long together."""
        now = self._clock()
        seconds, self._last_answer = now - self._last_answer, now
        self._answer_seconds.note(seconds, len(lengths), now)
        self._answer_lengths.note(sum(lengths), len(lengths), now)
        self._seat_seconds.note(seat_seconds, len(lengths), now)

    def _take_out(self, them: Iterable[Hashable]) -> tuple[int, int]:
        """How many of them waited, and the tokens of their prompts."""
        num_requests = num_tokens = 0
        for who in them:
            if (entry := self._waiting.pop(who, None)) is not None:
                tenant, num_its_requests, num_its_tokens = entry
                self._requests.add(tenant, -num_its_requests)
                self._tokens.add(tenant, -num_its_tokens)
                num_requests += num_its_requests
                num_tokens += num_its_tokens
        return num_requests, num_tokens


class _Room:
    """Room for ``size`` things. Half of it is anybody's; the other half is divided equally, and each tenant's part is kept
    for that tenant: whoever floods the room, the others find some. ``most`` is what one tenant may have."""

    def __init__(self, size: int, num_tenants: int) -> None:
        self.size = size
        self.num_all = 0
        self._kept = size // 2 // num_tenants if num_tenants > 1 else 0
        self._num_tenants = num_tenants
        self.most = size - (num_tenants - 1) * self._kept
        self._nums: Counter[str] = Counter()
        self._others: Mapping[str, int] = {}

    def add(self, tenant: str, num_things: int) -> None:
        """So many more, or fewer."""
        self.num_all += num_things
        self._nums[tenant] += num_things

    @property
    def num_own(self) -> int:
        """Those that came in here."""
        return self.num_all - sum(self._others.values())

    def note_others(self, nums: Mapping[str, int]) -> None:
        """So many came in elsewhere, by tenant."""
        before, self._others = self._others, nums
        for tenant in before.keys() | nums.keys():
            self.add(tenant, nums.get(tenant, 0) - before.get(tenant, 0))

    def num_beyond(self, tenant: str, num_new: int) -> int:
        """How many have to leave before there is room for ``num_new`` of ``tenant``; 0 or less: none."""
        num_kept = self._kept * (self._num_tenants - 1)
        if num_kept:
            num_kept -= sum(min(num, self._kept) for other, num in self._nums.items() if other != tenant)
        return self.num_all + num_new + num_kept - self.size

    def num_left(self, tenant: str) -> int:
        """How many more of ``tenant`` there is room for."""
        return max(0, -self.num_beyond(tenant, 0))


class _RecentRatio:
    """How much of one thing there was to one of another, of late: sums whose parts fade. None before the first."""

    def __init__(self) -> None:
        self._amount = 0.0
        self._number = 0.0
        self._last = 0.0

    @property
    def value(self) -> float | None:
        """The ratio."""
        return self._amount / self._number if self._number else None

    def note(self, amount: float, number: float, now: float) -> None:
        """So much of the one came with so many of the other."""
        fading = 0.5 ** ((now - self._last) / _HALF_LIFE_SECONDS)
        self._amount = self._amount * fading + amount
        self._number = self._number * fading + number
        self._last = now


def _queue_is_full(who_waits: str, room: _Room, num_new: int, seconds: float) -> TooManyRequestsError:
    kept = ", and what is left is kept for other API keys" if room.num_all + num_new <= room.size else ""
    return TooManyRequestsError(
        f"the waiting queue is full: {who_waits} and {room.size} may{kept}; try again later",
        retry_after_seconds=_retry_after(seconds),
    )


def _retry_after(seconds: float) -> int:
    return min(max(1, math.ceil(seconds)), _MAX_RETRY_AFTER_SECONDS)
