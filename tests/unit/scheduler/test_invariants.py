"""The check itself: it finds each kind of damage, so that the traces that run it prove something."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.scheduler.desk import new_request
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.scheduler.invariants import check_invariants
from yeoul.scheduler.queue import WaitingQueue
from yeoul.scheduler.request import Request, RequestStatus


class Queues:
    """Two running requests that share their first block, and one that waits."""

    def __init__(self) -> None:
        self.cache = KVCacheManager(8, 4)
        self.running = [self._running(number) for number in range(2)]
        self.waits = Request(new_request("waiting", 3), (0, 2), 0.0, 100)
        self.waiting = WaitingQueue(lambda tenant: 0)
        self.waiting.push(self.waits)
        self.held = [Request(new_request("held", 3), (0, 3), 0.0, 100)]
        self.held[0].status = RequestStatus.HELD
        self.requests = [*self.running, self.waits, *self.held]
        self.cache.allocate_table([], 2, 0)
        self.cache.allocate_table([0], 2, 0)
        self.running[0].block_ids = [0, 1]
        self.running[1].block_ids = [0, 2]

    def _running(self, number: int) -> Request:
        request = Request(new_request(f"r{number}", [1, 2, 3, 4, 10 + number, 7]), (0, number), 0.0, 100)
        request.status = RequestStatus.RUNNING
        request.num_computed_tokens = 5
        return request

    def put_last(self, name: str, order: tuple[int, int]) -> None:
        request = Request(new_request(name, 3), (0, 9), 0.0, 100)
        self.waiting.push(request)
        self.requests.append(request)
        request.order = order

    def check(self) -> None:
        check_invariants(self.requests, self.running, self.waiting, self.held, self.cache, num_in_flight=0)


def test_sound_queues_pass():
    Queues().check()


DAMAGES: dict[str, Callable[[Queues], object]] = {
    "in no queue, or in two": lambda queues: queues.waiting.remove(queues.waits),
    "the running requests are out of order": lambda queues: queues.running.reverse(),
    "the line of '' is out of order": lambda queues: queues.put_last("early", (0, 1)),
    "a waiting request thinks otherwise": lambda queues: setattr(queues.waits, "status", RequestStatus.FINISHED),
    "waits and holds blocks": lambda queues: setattr(queues.waits, "block_ids", [3]),
    "waits and has computed tokens": lambda queues: setattr(queues.waits, "num_computed_tokens", 1),
    "more than steps in flight bring": lambda queues: setattr(queues.running[0], "num_computed_tokens", 6),
    "computed tokens without a block": lambda queues: queues.running[0].block_ids.pop(),
    "named a block too early": lambda queues: setattr(queues.running[0], "num_named_blocks", 2),
    "named more blocks than it holds": lambda queues: setattr(queues.running[0], "num_named_blocks", 3),
    "references": lambda queues: queues.cache.allocate_table([], 1, 0),
    "share a block of different tokens": lambda queues: queues.running[0].token_ids.insert(0, 9),
    "share a block too early": lambda queues: setattr(queues.running[1], "num_computed_tokens", 3),
}


@pytest.mark.parametrize("words", DAMAGES)
def test_damage_is_found_and_named(words):
    queues = Queues()
    DAMAGES[words](queues)
    with pytest.raises(AssertionError, match=words):
        queues.check()


def test_a_block_shared_across_a_salt_is_found():
    queues = Queues()
    other = Request(new_request("salted", [1, 2, 3, 4, 11, 7], cache_salt="tenant"), (0, 1), 0.0, 100)
    other.status, other.block_ids, other.num_computed_tokens = RequestStatus.RUNNING, [0, 2], 5
    queues.running[1] = queues.requests[1] = other
    with pytest.raises(AssertionError, match="share a block across a salt"):
        queues.check()
