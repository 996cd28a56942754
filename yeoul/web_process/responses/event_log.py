"""EventLog: the events of a response that runs in the background, for any number of readers; knows no stream and no socket.

What is old is kept packed: an event is mostly names, and a long answer has thousands of them.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence

_END_OF_EVENT = b"\n\n"
_NUM_EVENTS_A_BLOCK = 256


class EventLog:
    """Events are counted from 0, as their sequence numbers are. One event loop."""

    def __init__(self) -> None:
        self.is_complete = False
        self._blocks: list[bytes] = []
        self._tail: list[bytes] = []
        self._change = asyncio.Event()

    def add(self, events: bytes) -> None:
        """More of them, written one after the other."""
        self._tail += split_events(events)
        while len(self._tail) >= _NUM_EVENTS_A_BLOCK:
            block, self._tail = self._tail[:_NUM_EVENTS_A_BLOCK], self._tail[_NUM_EVENTS_A_BLOCK:]
            self._blocks.append(zlib.compress(b"".join(block), 1))
        self._wake()

    def complete(self) -> None:
        """There are no more, here at least: readers come to their end."""
        self.is_complete = True
        self._wake()

    def packed(self, closing: bytes) -> list[bytes]:
        """All so far and the last ones, packed in blocks, as ``read_packed`` takes them."""
        return [*self._blocks, zlib.compress(b"".join(self._tail) + closing, 1)]

    async def read(self, first: int, keep_alive_seconds: float) -> AsyncIterator[bytes]:
        """The events from number ``first`` on, as they come; nothing but a blank one where there was none for so long."""
        while True:
            block, offset = divmod(first, _NUM_EVENTS_A_BLOCK)
            change = self._change
            if block < len(self._blocks):
                yield b"".join(split_events(zlib.decompress(self._blocks[block]))[offset:])
                first = (block + 1) * _NUM_EVENTS_A_BLOCK
            elif block == len(self._blocks) and offset < len(self._tail):
                events = self._tail[offset:]
                first += len(events)
                yield b"".join(events)
            elif self.is_complete:
                return
            else:
                try:
                    await asyncio.wait_for(change.wait(), keep_alive_seconds)
                except TimeoutError:
                    yield _END_OF_EVENT

    def _wake(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()


def split_events(events: bytes) -> list[bytes]:
    """Each with the blank line that ends it: there is none inside of one."""
    return [event + _END_OF_EVENT for event in events.split(_END_OF_EVENT)[:-1]]


def block_of(number: int) -> int:
    """The packed block that has the event of this number; the last block has all that follow."""
    return number // _NUM_EVENTS_A_BLOCK


def read_packed(blocks: Sequence[bytes], first_block: int, first: int) -> Iterator[bytes]:
    """The events from number ``first`` on, block by block; ``blocks`` begin with ``first_block``."""
    for place, block in enumerate(blocks, start=first_block):
        events = split_events(zlib.decompress(block))
        yield b"".join(events[max(0, first - place * _NUM_EVENTS_A_BLOCK) :])
