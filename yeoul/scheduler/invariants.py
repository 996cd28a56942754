"""What must hold between two calls of the scheduler, as one function; knows nothing of why. Called by Scheduler and tests."""

from __future__ import annotations

from collections.abc import Sequence

from yeoul.kv_cache.manager import KVCacheManager
from yeoul.scheduler.queue import WaitingQueue, order_key
from yeoul.scheduler.request import Request, RequestStatus
from yeoul.scheduler.tier_moves import TierMoves


def check_invariants(
    requests: Sequence[Request],
    running: Sequence[Request],
    waiting: WaitingQueue,
    held: Sequence[Request],
    cache: KVCacheManager,
    num_in_flight: int,
    moves: TierMoves | None = None,
) -> None:
    """Raises AssertionError unless each request is in one place, its counters fit its blocks, and the blocks add up."""
    assert len(requests) == len(running) + len(waiting) + len(held), "a request is in no queue, or in two"
    assert {id(request) for request in requests} == {id(request) for request in (*running, *waiting, *held)}
    assert all(request.status is RequestStatus.HELD for request in held), "a held request thinks otherwise"
    assert all(request.status is RequestStatus.WAITING for request in waiting), "a waiting request thinks otherwise"
    waiting.check_invariants()
    assert all(request.status is RequestStatus.RUNNING for request in running), "a running request thinks otherwise"
    orders = [order_key(request) for request in running]
    assert orders == sorted(orders), "the running requests are out of order"
    for request in (*waiting, *held):
        assert not request.block_ids, f"{request.request_id} waits and holds blocks"
        assert request.num_computed_tokens == 0, f"{request.request_id} waits and has computed tokens"
    for request in running:
        _check_running(request, cache, num_in_flight)
    tables = {request.request_id: request.block_ids for request in running}
    if moves is not None:
        moves.check_invariants()
        tables |= moves.tables
    cache.check_invariants(tables)
    _check_sharing(running, cache)


def _check_running(request: Request, cache: KVCacheManager, num_in_flight: int) -> None:
    name, num_blocks = request.request_id, len(request.block_ids)
    num_known = len(request.token_ids)
    assert 0 < request.num_computed_tokens < num_known + num_in_flight, f"{name} has computed more than steps in flight bring"
    assert request.num_computed_tokens <= num_blocks * cache.block_size, f"{name} has computed tokens without a block"
    assert request.num_named_blocks <= num_blocks, f"{name} has named more blocks than it holds"
    num_named_tokens = request.num_named_blocks * cache.block_size
    assert num_named_tokens <= min(num_known, request.num_computed_tokens), f"{name} has named a block too early"


def _check_sharing(running: Sequence[Request], cache: KVCacheManager) -> None:
    """A block in two tables holds the same tokens for both, and full blocks only are shared."""
    block_size = cache.block_size
    holders: dict[int, Request] = {}
    for request in running:
        for place, block_id in enumerate(request.block_ids):
            holder = holders.setdefault(block_id, request)
            if holder is not request:
                end = (place + 1) * block_size
                names = f"{holder.request_id} and {request.request_id}"
                assert holder.token_ids[:end] == request.token_ids[:end], f"{names} share a block of different tokens"
                assert holder.message.cache_salt == request.message.cache_salt, f"{names} share a block across a salt"
                assert min(holder.num_computed_tokens, request.num_computed_tokens) >= end, f"{names} share a block too early"
