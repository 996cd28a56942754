"""A server of several web processes while one of them is still being started, and others serve: its end, and a death."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from tests.unit.keeper_process.test_web_slot import FakeChild
from yeoul.config.settings import ModelSettings, ServerSettings, Settings
from yeoul.engines.engine_slots import EngineSlots
from yeoul.errors import ProcessDeadError
from yeoul.keeper_process.keeper_life import KeeperLife
from yeoul.keeper_process.web_slot import WebSlot
from yeoul.messages.outputs import EngineReady
from yeoul.transport.child_process import ChildProcess

SETTINGS = Settings(model=ModelSettings(model="fake"), server=ServerSettings(api_server_count=2))
READY = EngineReady(
    version="0",
    pid=1,
    num_blocks=1,
    block_size=16,
    cache_bytes=1,
    max_model_len=256,
    model_fingerprint="",
    workers=[],
)
Wait = Callable[[WebSlot, asyncio.Event], Awaitable[None]]


def send_signal() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def live(monkeypatch: pytest.MonkeyPatch, folder: str, wait_until_ready: Wait) -> list[str]:
    """Lets a server live whose processes are fakes; what was done with them."""
    done: list[str] = []
    serving, parted = asyncio.Event(), asyncio.Event()

    def spawn(slot: WebSlot) -> None:
        slot.child = cast(ChildProcess, FakeChild())

    def noting(word: str) -> Callable[[WebSlot], Awaitable[None]]:
        async def note(slot: WebSlot) -> None:
            done.append(f"{slot.name} {word}")
            if word == "parted":
                parted.set()

        return note

    async def replace(slot: WebSlot, death: ProcessDeadError) -> bool:
        done.append(f"{slot.name} replaced")
        spawn(slot)
        send_signal()
        return True

    async def start(engines: EngineSlots) -> EngineReady:
        return READY

    async def serve(slot: WebSlot) -> None:
        await parted.wait()

    async def live_on(engines: EngineSlots) -> ProcessDeadError:
        await asyncio.Event().wait()
        raise AssertionError

    async def stop(engines: EngineSlots) -> None:
        pass

    for name, value in {
        "spawn": spawn,
        "wait_until_ready": lambda slot: wait_until_ready(slot, serving),
        "replace": replace,
        "serve": serve,
        "drain": noting("drained"),
        "part": noting("parted"),
    }.items():
        monkeypatch.setattr(WebSlot, name, value)
    for name, value in {"start": start, "serve": lambda _: serving.set(), "wait_for_death": live_on, "stop": stop}.items():
        monkeypatch.setattr(EngineSlots, name, value)
    monkeypatch.setattr(EngineSlots, "spawn", lambda *_: None)
    life = KeeperLife(SETTINGS, ["fake"], [[], []], folder)
    assert asyncio.run(asyncio.wait_for(life.run(), 60.0)) == 0
    return done


def test_a_signal_while_one_is_being_started_lets_those_finish_that_serve_already(monkeypatch, tmp_path):
    async def wait_until_ready(slot: WebSlot, serving: asyncio.Event) -> None:
        if slot.index == 1:
            await serving.wait()
            send_signal()
            await asyncio.Event().wait()

    done = live(monkeypatch, str(tmp_path), wait_until_ready)
    assert done == ["Web_0 drained", "Web_1 drained", "Web_0 parted", "Web_1 parted"]


def test_one_that_dies_at_its_start_while_others_serve_is_replaced(monkeypatch, tmp_path):
    async def wait_until_ready(slot: WebSlot, serving: asyncio.Event) -> None:
        if slot.index == 1:
            await serving.wait()
            raise ProcessDeadError(slot.name, "was killed by signal 9 (SIGKILL)", exit_code=-9)

    done = live(monkeypatch, str(tmp_path), wait_until_ready)
    assert done == ["Web_1 replaced", "Web_0 drained", "Web_1 drained", "Web_0 parted", "Web_1 parted"]
