"""Two web processes of one server, each over a fake engine of its own, which answer each other's questions."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable

from tests.unit.web_process.fake_server import FakeServer
from tests.unit.web_process.fake_siblings import Answer, FakeSiblings
from yeoul.config.settings import Settings

Scene = Callable[[FakeServer, FakeServer], Awaitable[None]]


def serve_two(scene: Scene, chosen: Settings | None = None) -> None:
    """Plays a scene with both, within a minute."""

    async def play(folder: str) -> None:
        one, other = siblings(2, folder)
        async with FakeServer(chosen, siblings=one) as first, FakeServer(chosen, siblings=other) as second:
            await asyncio.wait_for(scene(first, second), 60)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(os.path.realpath(folder)))


def of(server: FakeServer) -> FakeSiblings:
    """What it was given."""
    assert isinstance(server.context.siblings, FakeSiblings)
    return server.context.siblings


def siblings(num: int, folder: str) -> list[FakeSiblings]:
    """So many that know each other."""
    others: dict[int, Answer] = {}
    return [FakeSiblings(index, folder, others=others) for index in range(num)]
