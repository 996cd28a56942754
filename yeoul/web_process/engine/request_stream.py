"""RequestStream: the reader's end of a request: deltas of all its choices in one async iterator, in bounded memory.

A delta that nobody has taken is merged with the next one of the same choice, so a reader that is slow holds back only
itself and its memory is bounded by the length of its own answers. With ``keeps_apart`` none is merged that has text of its
own: then the same answer is always the same deltas. Knows nothing of HTTP, sockets or text.
``AsyncLLM.submit`` makes it; ``RequestState`` pushes into it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from yeoul.messages.outputs import FinishReason
from yeoul.messages.requests import Lease
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.waiting_room import QueuePlace


class RequestStream:
    """All choices of all prompts of one call. Lives on one event loop; one reader.

    ``sampling`` is what the caller gave; ``seeds`` are those that hold, one a prompt; ``leases`` are of the first prompt.
    ``error`` is why it failed, ``finish_reason`` that of the choice that ended last. Of the monotonic clock, ``tokenized_at``
    is when its prompts were tokens, ``entered_at`` when the engine was handed the request, and ``ended_at`` when all choices
    had ended.
    One that ``is_probe`` is no use of the model.
    With ``final_only`` the reader is not woken before a choice has ended, and gets it whole, unless its deltas are kept
    apart. While the reader waits, ``take_at_once`` is offered each delta behind which more will come, and says whether it
    took it: then nobody need be woken. A reader that
    ``wants_places`` is woken while it waits, with its place in the queue.
    """

    def __init__(
        self,
        request_id: str,
        prompts: list[list[int]],
        sampling: SamplingParams,
        seeds: list[int],
        on_close: Callable[[RequestStream], None],
        leases: list[Lease] | None = None,
    ) -> None:
        self.request_id = request_id
        self.prompts = prompts
        self.sampling = sampling
        self.seeds = seeds
        self.leases = leases or []
        self._on_close = on_close
        self._pending: dict[tuple[int, int], GenerationOutput] = {}
        self._ready: dict[tuple[int, int], None] = {}
        self._apart: deque[GenerationOutput] = deque()
        self._num_open_choices = len(prompts) * sampling.n
        self.error: Exception | None = None
        self._is_poked = False
        self._is_closed = False
        self._waiter: asyncio.Future[None] | None = None
        self.take_at_once: Callable[[GenerationOutput], bool] = _leave
        self.final_only = False
        self.keeps_apart = False
        self.wants_places = False
        self.is_probe = False
        self._place: QueuePlace | None = None
        self._untold_place: QueuePlace | None = None
        self.timer: asyncio.TimerHandle | None = None  # of its deadline
        self.engine_request_ids: list[str] = []
        self.finish_reason: FinishReason | None = None
        self.tokenized_at = self.entered_at = 0.0
        self.ended_at: float | None = None

    @property
    def num_choices(self) -> int:
        """Choices of all prompts together."""
        return len(self.prompts) * self.sampling.n

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of all prompts together, each counted once."""
        return sum(map(len, self.prompts))

    def push(self, output: GenerationOutput, *, is_ready: bool) -> None:
        """Adds a delta; one that is not ready (nothing in it that a reader could show) waits for the choice's next one."""
        key = (output.prompt_index, output.choice_index)
        if (pending := self._pending.pop(key, None)) is not None:
            pending.merge(output)
            output = pending
        if output.finish_reason is not None:
            self._num_open_choices -= 1
            self.finish_reason = output.finish_reason
            if self._num_open_choices == 0:
                self.ended_at = time.monotonic()
        elif is_ready and self._waiter is not None and self.take_at_once(output):
            return
        self._pending[key] = output
        if is_ready and (self.keeps_apart or not self.final_only or output.finish_reason is not None):
            if self.keeps_apart:
                self._apart.append(self._pending.pop(key))
            else:
                self._ready[key] = None
            self._wake()

    def fail(self, error: Exception) -> None:
        """Ends the stream: the reader gets what had come before, then this error."""
        if self.error is None:
            self.error = error
            self.finish_reason, self.ended_at = "error", time.monotonic()
        self._wake()

    def poke(self) -> None:
        """Makes a waiting ``next_batch`` return nothing now; used for keep-alives."""
        self._is_poked = True
        self._wake()

    def tell_place(self, place: QueuePlace) -> None:
        """Where it waits now. A place that has been told already wakes nobody."""
        if place != self._place:
            self._place = self._untold_place = place
            self.poke()

    def take_place(self) -> QueuePlace | None:
        """What was told since the last time, if anything."""
        place, self._untold_place = self._untold_place, None
        return place

    async def next_batch(self) -> list[GenerationOutput]:
        """Everything that is ready, at most one delta a choice unless they are kept apart; empty after ``poke()``.

        Raises:
            StopAsyncIteration: every choice has ended.
            YeoulError: the request failed.
        """
        if not (self._ready or self._apart) and not await self._wait():
            return []
        batch = list(map(self._pending.pop, self._ready))
        self._ready.clear()
        if self._apart:
            batch = [*self._apart, *batch]
            self._apart.clear()
        return batch

    async def collect(self) -> list[GenerationOutput]:
        """Every choice whole, or all its deltas where they are kept apart, by prompt and choice; the stream is closed then.

        Raises:
            YeoulError: the request failed.
        """
        self.final_only = True
        try:
            outputs = [output async for output in self]
        finally:
            self.close()
        return sorted(outputs, key=lambda output: (output.prompt_index, output.choice_index))

    def __aiter__(self) -> RequestStream:
        return self

    async def __anext__(self) -> GenerationOutput:
        while not await self._wait():
            pass
        if self._apart:
            return self._apart.popleft()
        key = next(iter(self._ready))
        del self._ready[key]
        return self._pending.pop(key)

    async def _wait(self) -> bool:
        """True once something is ready, False after a poke."""
        while not (self._ready or self._apart):
            if self.error is not None:
                raise self.error
            if self._num_open_choices <= 0 or self._is_closed:
                raise StopAsyncIteration
            if self._is_poked:
                self._is_poked = False
                return False
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return True

    def close(self) -> None:
        """Ends the request; what is still being computed for it is given up at once. Harmless when repeated."""
        if not self._is_closed:
            self._is_closed = True
            self.take_at_once = _leave
            self._on_close(self)
            self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _leave(output: GenerationOutput) -> bool:
    """What a reader does that takes nothing before it has been woken."""
    return False
