"""The keeper's ends of a link, and a web process's, in one loop."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from yeoul.transport.front_sockets import FrontContext, FrontSockets
from yeoul.transport.sockets import ClientSockets


@pytest.fixture
def context():
    made = FrontContext()
    yield made
    made.close()


def test_what_is_said_before_the_web_process_has_joined_reaches_it_in_its_order(context, tmp_path):
    async def scene() -> list[bytes]:
        taken: asyncio.Queue[bytes] = asyncio.Queue()
        front = FrontSockets(context, str(tmp_path), taken.put_nowait)
        for number in range(3):
            front.send(b"%d" % number)
        web = ClientSockets(*front.addresses)
        web.send(b"hello")
        assert await taken.get() == b"hello"
        got = [await web.receive() for _ in range(3)]
        web.close()
        front.close()
        return got

    assert asyncio.run(asyncio.wait_for(scene(), 60)) == [b"0", b"1", b"2"]


def test_what_is_said_to_a_web_process_that_is_gone_is_lost_and_nobody_fails(context, tmp_path):
    async def scene() -> None:
        front = FrontSockets(context, str(tmp_path), lambda _: None)
        web = ClientSockets(*front.addresses)
        front.send(b"first")
        await web.receive()
        web.close()
        while True:  # until ZeroMQ has noticed
            before = front.num_sent
            front.send(b"late")
            await asyncio.sleep(0)
            if front.num_sent == before:
                break
        front.close()
        front.send(b"after the end")

    asyncio.run(asyncio.wait_for(scene(), 60))
    assert not list(tmp_path.iterdir())


def test_a_flood_is_taken_whole_and_lets_others_have_their_turn(context, tmp_path):
    async def scene() -> list[int]:
        taken: list[bytes] = []
        front = FrontSockets(context, str(tmp_path), taken.append)
        web = ClientSockets(*front.addresses)
        for _ in range(1000):
            web.send(b"x")
        seen = [0]
        while seen[-1] < 1000:
            await asyncio.sleep(0)
            seen.append(len(taken))
        web.close(linger_seconds=1.0)
        front.close()
        return [after - before for before, after in itertools.pairwise(seen)]

    at_a_time = asyncio.run(asyncio.wait_for(scene(), 60))
    assert sum(at_a_time) == 1000
    assert max(at_a_time) <= 3 * 32  # what a turn may have that begins with what was left of the last one
