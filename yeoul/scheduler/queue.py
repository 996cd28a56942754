"""WaitingQueue: requests in the order in which they are to run; knows nothing of budgets or blocks. Called by Scheduler."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from yeoul.config.settings import Policy
from yeoul.scheduler.request import Request


def order_of(policy: Policy, priority: int, number: int) -> tuple[int, int]:
    """What requests are sorted by: their number (the order of arrival), after their priority where that is the policy."""
    return (priority if policy == "priority" else 0, number)


def order_key(request: Request) -> tuple[int, int]:
    """The sort key of every ordered list of requests."""
    return request.order


class WaitingQueue:
    """A sorted list. A preempted request comes back to its old place, so under FCFS it is before all that came later.

    Taking from any place moves at most as many pointers as requests wait, and their number is bounded.
    """

    def __init__(self) -> None:
        self._requests: list[Request] = []

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def __getitem__(self, index: int) -> Request:
        return self._requests[index]

    def push(self, request: Request) -> None:
        """Adds a request in its place."""
        insort(self._requests, request, key=order_key)

    def pop(self, index: int) -> Request:
        """Takes out the request at ``index`` (0 runs next)."""
        return self._requests.pop(index)

    def remove(self, request: Request) -> None:
        """Takes out this request, which must be here."""
        index = bisect_left(self._requests, request.order, key=order_key)
        assert index < len(self._requests), f"{request.request_id} does not wait"
        assert self._requests[index] is request, f"{request.request_id} does not wait"
        del self._requests[index]
