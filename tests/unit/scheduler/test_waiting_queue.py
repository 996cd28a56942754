"""The waiting queue against a sorted list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.scheduler.desk import new_request
from yeoul.scheduler.queue import WaitingQueue, order_of
from yeoul.scheduler.request import Request


def waiting(order: tuple[int, int]) -> Request:
    return Request(new_request("a", 3), order, arrival_seconds=0.0, max_num_tokens=10)


@given(
    orders=st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 30)), unique=True),
    taken=st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=30),
)
def test_requests_come_out_in_order_whatever_was_taken_in_between(orders, taken):
    queue, requests = WaitingQueue(), [waiting(order) for order in orders]
    for request in requests:
        queue.push(request)
    requests.sort(key=lambda request: request.order)
    for is_aborted, index in taken:
        if index < len(requests):
            request = requests.pop(index)
            if is_aborted:
                queue.remove(request)
            else:
                assert queue.pop(index) is request
    assert list(queue) == requests
    assert len(queue) == len(requests)


def test_taking_out_who_does_not_wait_is_our_own_mistake():
    queue = WaitingQueue()
    with pytest.raises(AssertionError, match="a does not wait"):
        queue.remove(waiting((0, 0)))
    queue.push(waiting((0, 0)))
    with pytest.raises(AssertionError, match="a does not wait"):
        queue.remove(waiting((0, 0)))


def test_only_the_priority_policy_looks_at_the_priority():
    assert order_of("fcfs", -5, 7) == (0, 7)
    assert order_of("priority", -5, 7) == (-5, 7)
