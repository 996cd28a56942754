"""FairThreads: a few threads for long work, which tenants have in turns; knows nothing of what the work is.

``ModelText`` renders and tokenizes there. How much may wait is for the waiting room to say.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from setproctitle import setthreadtitle

from yeoul.errors import UnavailableError

Result = TypeVar("Result")


class FairThreads:
    """``num_threads`` threads called ``name``, which start with the first work. One event loop."""

    def __init__(self, num_threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(num_threads, name, lambda: setthreadtitle(name))
        self._num_free = num_threads
        self._is_closed = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # whose turn is next comes first

    async def run(self, tenant: str, work: Callable[[], Result]) -> Result:
        """What ``work`` returns, once a thread is free and it is this tenant's turn; within a tenant in their order.

        Raises:
            UnavailableError: the threads have ended before.
        """
        if self._num_free:
            self._num_free -= 1
        else:
            await self._wait(tenant)
        try:
            if self._is_closed:  # the model is read anew, or the server stops
                raise UnavailableError("the text of the model was put away meanwhile; send it again", retry_after_seconds=1)
            job = asyncio.get_running_loop().run_in_executor(self._pool, work)
        except BaseException:
            self._pass_on()
            raise
        job.add_done_callback(lambda _: self._pass_on())  # a caller who has left does not end what its thread is at
        return await asyncio.shield(job)

    async def _wait(self, tenant: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given a thread in this very moment
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """A thread is free: the tenant whose turn it is has it, and then its turn again after all others."""
        while self._waiting:
            tenant, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[tenant] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._num_free += 1

    def close(self) -> None:
        """Ends the threads; what they are at is finished and forgotten."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
