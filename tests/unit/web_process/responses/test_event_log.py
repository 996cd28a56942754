"""The events of a response in the background, for readers that come and go, while it runs and afterwards."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from yeoul.web_process.responses.event_log import EventLog, block_of, read_packed


def event(number: int) -> bytes:
    return b'event: x\ndata: {"n":%d}\n\n' % number


async def read_all(log: EventLog, first: int) -> bytes:
    return b"".join([piece async for piece in log.read(first, 60.0)])


@given(st.integers(0, 900), st.integers(0, 5), st.integers(0, 920), st.integers(1, 600))
def test_a_reader_gets_all_from_its_number_on_now_and_later(num_events, num_last, first, num_between_packs):
    async def scene() -> None:
        log = EventLog()
        reading = asyncio.create_task(read_all(log, first))
        for number in range(num_events):
            log.add(event(number))
            if number % 100 == 0:
                await asyncio.sleep(0)
            if number % num_between_packs == 0:
                await log.pack()
        closing = b"".join(map(event, range(num_events, num_events + num_last)))
        blocks = await log.packed(closing)
        log.add(closing)
        log.complete()
        expected = b"".join(map(event, range(first, num_events + num_last)))
        assert await reading == expected
        assert await read_all(log, first) == expected
        place = min(block_of(first), len(blocks) - 1)
        assert b"".join([piece async for piece in read_packed(blocks[place:], place, first)]) == expected

    asyncio.run(scene())


def test_a_reader_that_waits_is_kept_alive():
    async def scene() -> None:
        log = EventLog()
        reader = log.read(0, 0.001)
        assert await anext(reader) == b"\n\n"
        log.add(event(0))
        assert await anext(reader) == event(0)

    asyncio.run(scene())
