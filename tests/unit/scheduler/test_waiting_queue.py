"""The waiting queue against a sorted list; whose turn it is where several tenants wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.scheduler.desk import new_request
from yeoul.scheduler.queue import WaitingQueue, order_of, waiting_key
from yeoul.scheduler.request import Request


def waiting(order: tuple[int, int], *, tenant: str = "", num_made: int = 0) -> Request:
    message = new_request("a", 3, tenant=tenant, output_token_ids=[7] * num_made)
    return Request(message, order, arrival_seconds=0.0, max_num_tokens=10)


def one_tenants_queue(*requests: Request) -> WaitingQueue:
    queue = WaitingQueue(lambda tenant: 0)
    for request in requests:
        queue.push(request)
    return queue


@given(
    orders=st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 30)), unique=True),
    taken=st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=30),
)
def test_requests_come_out_in_order_whatever_was_taken_in_between(orders, taken):
    requests = [waiting(order, num_made=order[1] % 3) for order in orders]
    queue = one_tenants_queue(*requests)
    requests.sort(key=waiting_key)
    for is_first, index in taken:
        if index < len(requests):
            request = requests.pop(0 if is_first else index)
            if is_first:
                assert queue.first() is request
            queue.remove(request)
    assert list(queue) == requests
    assert len(queue) == len(requests)


def test_who_has_begun_goes_on_before_others_begin_and_the_shortest_context_first():
    urgent, longer, shorter, new = waiting((0, 5)), waiting((1, 1), num_made=9), waiting((1, 2), num_made=2), waiting((1, 0))
    assert list(one_tenants_queue(new, longer, urgent, shorter)) == [urgent, shorter, longer, new]


def test_the_tenant_who_has_had_the_least_is_next():
    costs = {"crowd": 100, "single": 3}
    queue = WaitingQueue(costs.__getitem__)
    crowd = [waiting((0, number), tenant="crowd") for number in range(3)]
    single = [waiting((0, number), tenant="single") for number in range(3, 5)]
    for request in (*crowd, *single):
        queue.push(request)
    assert queue.has_choice
    assert queue.first() is single[0]
    costs["single"] = 101
    assert queue.first() is crowd[0]
    for request in crowd:
        queue.remove(request)
    assert queue.first() is single[0]


def test_who_has_begun_goes_on_whatever_his_tenant_has_had():
    queue = WaitingQueue({"crowd": 100, "single": 3}.__getitem__)
    begun = waiting((0, 9), tenant="crowd", num_made=1)
    for request in (waiting((0, 0), tenant="single"), begun):
        queue.push(request)
    assert queue.first() is begun


def test_an_empty_queue_has_no_first():
    assert one_tenants_queue().first() is None


def test_taking_out_who_does_not_wait_is_our_own_mistake():
    queue = one_tenants_queue()
    with pytest.raises(AssertionError, match="a does not wait"):
        queue.remove(waiting((0, 0)))
    queue.push(waiting((0, 0)))
    with pytest.raises(AssertionError, match="a does not wait"):
        queue.remove(waiting((0, 0)))


def test_only_the_priority_policy_looks_at_the_priority():
    assert order_of("fcfs", -5, 7) == (0, 7)
    assert order_of("priority", -5, 7) == (-5, 7)


def test_what_tenants_have_had_is_told_where_there_is_a_choice():
    queue = WaitingQueue(lambda tenant: len(tenant))
    queue.push(waiting((0, 0), tenant="a"))
    assert queue.costs() == {}
    queue.push(waiting((0, 1), tenant="bb"))
    assert queue.costs() == {"a": 1, "bb": 2}
