"""Scenes of several engines: settings, a run with fakes, what their readers read; knows no death. Their tests use it."""

from __future__ import annotations

import asyncio

import msgspec

from tests.unit.web_process.fake_engine_client import FakeEngine, FakeEngineClient, settings
from yeoul.config.settings import ParallelSettings, RecoverySettings, SchedulerSettings, Settings
from yeoul.errors import ProcessDeadError
from yeoul.web_process.engine.request_stream import RequestStream

DEATH = ProcessDeadError("EngineCore_0", "was killed by signal 9 (SIGKILL)", exit_code=-9)
LONG = [5] * 128


def several(number: int = 2, **recovery: object) -> Settings:
    return msgspec.structs.replace(
        settings(),
        parallel=ParallelSettings(data_parallel_size=number),
        scheduler=SchedulerSettings(max_num_waiting_requests=100),
        recovery=RecoverySettings(recovery_reports=False, **recovery),  # type: ignore[arg-type]
    )


def run(scene, chosen: Settings | None = None) -> None:
    async def whole() -> None:
        async with FakeEngine(chosen or several(), may_be_replaced=True) as engine:
            await asyncio.wait_for(scene(engine), 30.0)

    asyncio.run(whole())


async def text_of(stream: RequestStream) -> str:
    text = "".join([output.text async for output in stream])
    stream.close()
    return text


def hold(engine: FakeEngine, *, is_held: bool = True) -> None:
    for client in engine.clients:
        (client.gate.clear if is_held else client.gate.set)()


def holder_of(engine: FakeEngine, prompt: list[int]) -> FakeEngineClient:
    return next(client for client in engine.clients if any(add.prompt_token_ids == prompt for add in client.added))
