"""EventLog: the events of a response that runs in the background, for any number of readers; knows no stream and no socket.

What is old is kept packed: an event is mostly names, and a long answer has thousands of them. Some events have all of a
request's tools and instructions in them; what is that large is packed and unpacked in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

_END_OF_EVENT = b"\n\n"
_NUM_EVENTS_A_BLOCK = 256
_MAX_BYTES_ON_LOOP = 1 << 17  # a millisecond or so of packing


class EventLog:
    """Events are counted from 0, as their sequence numbers are. One event loop, and one writer."""

    def __init__(self) -> None:
        self.is_complete = False
        self._blocks: list[bytes] = []
        self._tail: list[bytes] = []
        self._change = asyncio.Event()

    def add(self, events: bytes) -> None:
        """More of them, written one after the other."""
        self._tail += split_events(events)
        self._wake()

    async def pack(self) -> None:
        """Packs what is old; for the writer, now and then."""
        while len(self._tail) >= _NUM_EVENTS_A_BLOCK:
            block = await _packed(self._tail[:_NUM_EVENTS_A_BLOCK])
            self._blocks.append(block)
            del self._tail[:_NUM_EVENTS_A_BLOCK]

    def complete(self) -> None:
        """There are no more, here at least: readers come to their end."""
        self.is_complete = True
        self._wake()

    async def packed(self, closing: bytes) -> list[bytes]:
        """All so far and the last ones, packed in blocks, as ``read_packed`` takes them."""
        await self.pack()
        return [*self._blocks, await _packed([*self._tail, closing])]

    async def read(self, first: int, keep_alive_seconds: float) -> AsyncGenerator[bytes, None]:
        """The events from number ``first`` on, as they come; nothing but a blank one where there was none for so long."""
        while True:
            block, offset = divmod(first, _NUM_EVENTS_A_BLOCK)
            change = self._change
            if block < len(self._blocks):
                yield b"".join((await _unpacked(self._blocks[block]))[offset:])
                first = (block + 1) * _NUM_EVENTS_A_BLOCK
            elif events := self._tail[first - len(self._blocks) * _NUM_EVENTS_A_BLOCK :]:
                first += len(events)
                yield b"".join(events)
            elif self.is_complete:
                return
            else:
                try:
                    await asyncio.wait_for(change.wait(), keep_alive_seconds)
                except TimeoutError:
                    yield _END_OF_EVENT

    async def take(self, first: int, seconds: float) -> tuple[bytes, int, bool]:
        """The next events from number ``first`` on, or none after so many seconds; the number behind; whether all is told."""
        async with contextlib.aclosing(self.read(first, seconds)) as events:
            async for some in events:
                return (b"", first, False) if some == _END_OF_EVENT else (some, first + len(split_events(some)), False)
        return b"", first, True

    def _wake(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()


def split_events(events: bytes) -> list[bytes]:
    """Each with the blank line that ends it: there is none inside of one."""
    found, begin = [], 0
    while (end := events.find(_END_OF_EVENT, begin)) >= 0:
        found.append(events[begin : end + len(_END_OF_EVENT)])
        begin = end + len(_END_OF_EVENT)
    return found


def block_of(number: int) -> int:
    """The packed block that has the event of this number; the last block has all that follow."""
    return number // _NUM_EVENTS_A_BLOCK


async def read_packed(blocks: Sequence[bytes], first_block: int, first: int) -> AsyncIterator[bytes]:
    """The events from number ``first`` on, block by block; ``blocks`` begin with ``first_block``."""
    for place, block in enumerate(blocks, start=first_block):
        yield b"".join((await _unpacked(block))[max(0, first - place * _NUM_EVENTS_A_BLOCK) :])


async def _packed(events: list[bytes]) -> bytes:
    def work() -> bytes:
        return zlib.compress(b"".join(events), 1)

    return work() if sum(map(len, events)) <= _MAX_BYTES_ON_LOOP else await asyncio.to_thread(work)


async def _unpacked(block: bytes) -> list[bytes]:
    def work() -> list[bytes]:
        return split_events(zlib.decompress(block))

    return work() if len(block) <= _MAX_BYTES_ON_LOOP >> 2 else await asyncio.to_thread(work)
