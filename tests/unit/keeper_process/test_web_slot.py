"""One place among the web processes: who is replaced, after which pause, and how one is let go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import msgspec
import pytest

from tests.unit.keeper_process.test_relay import FakeLink
from yeoul.config.settings import ModelSettings, RecoverySettings, Settings
from yeoul.engines.incidents import IncidentLog
from yeoul.errors import GivenUpError, ProcessDeadError, TransportTimeoutError
from yeoul.keeper_process.relay import Relay
from yeoul.keeper_process.web_link import WebLink
from yeoul.keeper_process.web_slot import WebSlot
from yeoul.messages.keeper import WebOrder
from yeoul.messages.reports import WebReady
from yeoul.transport.child_process import ChildProcess


class FakeChild:
    """Is ready at once, and takes an order when ``num_deaf`` have got no answer."""

    role, pid = "Web_0", 77

    def __init__(self) -> None:
        self.num_deaf = 0
        self.orders: list[str] = []
        self.is_killed = False
        self.on_order: Callable[[], object] = lambda: None

    def read_report(self, timeout_seconds: float) -> bytes:
        return msgspec.msgpack.encode(WebReady(None))

    def ask(self, question: bytes, timeout_seconds: float) -> bytes:
        if self.num_deaf:
            self.num_deaf -= 1
            raise TransportTimeoutError("a library holds its interpreter")
        self.orders.append(msgspec.msgpack.decode(question, type=WebOrder).kind)
        self.on_order()
        return b"taken"

    def kill(self) -> None:
        self.is_killed = True

    def close(self) -> None:
        pass


class Scene:
    """A place whose processes are fakes."""

    def __init__(self, max_restarts: int) -> None:
        self.children: list[FakeChild] = []
        self.link = FakeLink(0)
        chosen = Settings(model=ModelSettings(model="fake"), recovery=RecoverySettings(max_restarts=max_restarts))
        self.slot = WebSlot(0, self._start, Relay(1), IncidentLog(), chosen)

    def _start(self, num_starts: int) -> tuple[ChildProcess, WebLink]:
        self.children.append(FakeChild())
        return cast(ChildProcess, self.children[-1]), self.link


def play(scene: Callable[[Scene], Awaitable[None]], max_restarts: int = 3) -> None:
    async def run() -> None:
        await asyncio.wait_for(scene(Scene(max_restarts)), 60.0)

    asyncio.run(run())


def death(*, is_for_memory: bool = False) -> ProcessDeadError:
    return ProcessDeadError("Web_0", "was killed by signal 9 (SIGKILL)", exit_code=-9, is_for_memory=is_for_memory)


def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The limits of what is waited for, which are over at once."""
    limits: list[float] = []
    wait_for = asyncio.wait_for

    async def wait(what: Awaitable[object], limit: float) -> object:
        limits.append(limit)
        return await wait_for(what, 0.0)

    monkeypatch.setattr("yeoul.keeper_process.web_slot.asyncio.wait_for", wait)
    return limits


def test_nobody_waits_more_than_a_second_for_the_next_one_however_many_have_died(monkeypatch):
    async def scene(made: Scene) -> None:
        limits = pauses(monkeypatch)
        for _ in range(12):
            assert await made.slot.replace(death())
        assert limits == [0.0, 0.0, 0.25, 0.5, *[1.0] * 8]
        with pytest.raises(GivenUpError):
            await made.slot.replace(death())

    play(scene, 12)


def test_one_for_which_there_was_no_memory_is_replaced_as_often_as_others():
    async def scene(made: Scene) -> None:
        for _ in range(2):
            assert await made.slot.replace(death(is_for_memory=True))

    play(scene)


def test_a_server_that_stops_waits_for_no_pause(monkeypatch):
    async def scene(made: Scene) -> None:
        monkeypatch.setattr("yeoul.keeper_process.web_slot._LONGEST_PAUSE_SECONDS", 1000.0)
        monkeypatch.setattr("yeoul.recovery.restart_budget._FIRST_PAUSE_SECONDS", 1000.0)
        monkeypatch.setattr("yeoul.recovery.restart_budget._LONGEST_PAUSE_SECONDS", 1000.0)
        for _ in range(2):
            assert await made.slot.replace(death())
        pausing = asyncio.create_task(made.slot.replace(death()))
        await asyncio.sleep(0)
        made.slot.replace_no_longer()
        assert not await pausing
        assert len(made.children) == 2

    play(scene)


def test_one_that_is_slow_to_take_an_order_is_asked_again_and_keeps_its_streams(monkeypatch):
    async def scene(made: Scene) -> None:
        monkeypatch.setattr("yeoul.keeper_process.web_slot._LOOK_SECONDS", 0.0)
        made.slot.spawn()
        made.link.is_welcome = True
        (child,) = made.children
        child.num_deaf = 3
        loop = asyncio.get_running_loop()
        child.on_order = lambda: loop.call_soon_threadsafe(made.link.has_drained.set)
        await made.slot.drain()
        child.num_deaf = 3
        await made.slot.part()
        assert child.orders == ["drain", "part"]
        assert not child.is_killed

    play(scene)


def test_one_that_is_being_started_when_the_server_stops_is_ended():
    async def scene(made: Scene) -> None:
        made.slot.spawn()
        (child,) = made.children
        child.num_deaf = 1
        await made.slot.drain()
        assert child.is_killed

    play(scene)
