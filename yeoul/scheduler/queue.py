"""WaitingQueue: requests in the order in which they are to run; knows nothing of budgets or blocks. Called by Scheduler."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator

from yeoul.config.settings import Policy
from yeoul.scheduler.request import Request

_NOT_BEGUN = 1 << 62  # more than any context has tokens

_BEHIND_ALL = 1 << 32  # more than any priority

_Key = tuple[int, int, int]


def order_of(policy: Policy, priority: int, number: int, *, in_gaps: bool = False) -> tuple[int, int]:
    """What requests are sorted by: their number (the order of arrival), after their priority where that is the policy;
    those that fill gaps are behind all others."""
    if in_gaps:
        return (_BEHIND_ALL, number)
    return (priority if policy == "priority" else 0, number)


def order_key(request: Request) -> tuple[int, int]:
    """The sort key of running requests."""
    return request.order


def waiting_key(request: Request) -> _Key:
    """The sort key of one tenant's waiting requests: who has begun, and was preempted or lost its worker, goes on before
    others begin; the shortest context first, so that most streams pause for the shortest time."""
    priority, number = request.order
    return priority, len(request.token_ids) if request.has_answered else _NOT_BEGUN, number


class WaitingQueue:
    """A sorted line of requests a tenant. Of those in front the most urgent one is next, then one that has begun, then that
    of the tenant who has had the least.

    Taking from any place moves at most as many pointers as requests wait, and their number is bounded.
    """

    def __init__(self, cost_of: Callable[[str], int]) -> None:
        """``cost_of`` tells what a tenant has had so far."""
        self._cost_of = cost_of
        self._lines: dict[str, list[Request]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[Request]:
        for line in self._lines.values():
            yield from line

    @property
    def has_choice(self) -> bool:
        """Whether more than one tenant waits."""
        return len(self._lines) > 1

    def costs(self) -> dict[str, int]:
        """What each tenant that waits has had; nothing where there is no choice between them."""
        return {tenant: self._cost_of(tenant) for tenant in self._lines} if self.has_choice else {}

    def push(self, request: Request) -> None:
        """Adds a request in its place."""
        insort(self._lines.setdefault(request.message.tenant, []), request, key=waiting_key)

    def first(self) -> Request | None:
        """Who runs next; stays here."""
        heads = [line[0] for line in self._lines.values()]
        if len(heads) > 1:
            return min(heads, key=self._urgency)
        return heads[0] if heads else None

    def remove(self, request: Request) -> None:
        """Takes out this request, which must be here."""
        line = self._lines.get(request.message.tenant, [])
        index = bisect_left(line, waiting_key(request), key=waiting_key)
        assert index < len(line), f"{request.request_id} does not wait"
        assert line[index] is request, f"{request.request_id} does not wait"
        del line[index]
        if not line:
            del self._lines[request.message.tenant]

    def check_invariants(self) -> None:
        """Raises AssertionError unless every line is in order and has somebody."""
        for tenant, line in self._lines.items():
            keys = [waiting_key(request) for request in line]
            assert keys, f"the line of {tenant!r} is empty"
            assert keys == sorted(keys), f"the line of {tenant!r} is out of order"

    def _urgency(self, request: Request) -> tuple[int, int, int, int]:
        priority, context, number = waiting_key(request)
        return priority, context, self._cost_of(request.message.tenant), number
