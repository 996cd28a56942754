"""Whatever ends what serves one engine ends the server with a cause; time in which nobody ran is nobody's silence."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from tests.unit.web_process.fake_engine_client import FakeEngine, settings, until
from yeoul.config.settings import TimeSettings
from yeoul.engines import engine_watch
from yeoul.errors import ProcessDeadError, TransportError
from yeoul.messages.outputs import StepOutputs
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.engine.request_stream import RequestStream

QUICK = msgspec.structs.replace(settings(), time=TimeSettings(engine_answer_timeout_seconds=0.1))


def run(scene) -> None:
    async def whole() -> None:
        async with FakeEngine(QUICK, may_be_replaced=True) as engine:
            await asyncio.wait_for(scene(engine), 10.0)

    asyncio.run(whole())


async def read(stream: RequestStream) -> str:
    text = "".join([output.text async for output in stream])
    stream.close()
    return text


def fails_to_replace(engine: FakeEngine, error: Exception) -> None:
    engine.client.failures = [error]
    engine.client.die()


def fails_to_watch(engine: FakeEngine, error: Exception) -> None:
    def fail() -> bool:
        raise error

    engine.client.is_suspended = fail  # type: ignore[method-assign]


def fails_to_take_stock(engine: FakeEngine, error: Exception) -> None:
    async def fail(method: str, arguments: list[str] | None = None) -> str:
        raise error

    engine.client.call = fail  # type: ignore[method-assign]


def fails_to_be_counted(engine: FakeEngine, error: Exception) -> None:
    def fail(role: str, cause: str) -> None:
        raise error

    engine.llm.observer.lost = fail  # type: ignore[method-assign]
    engine.client.die()


ERRORS = [TransportError("no fork"), OSError(12, "Cannot allocate memory"), MemoryError(), RuntimeError("a bug")]


@pytest.mark.parametrize("fail", [fails_to_replace, fails_to_watch, fails_to_take_stock, fails_to_be_counted])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_that_nobody_foresaw_in_a_task_that_serves_ends_the_engine_with_its_cause(fail, error):
    async def scene(engine: FakeEngine) -> None:
        engine.client.gate.clear()
        stream = await engine.llm.submit(["hi"], SamplingParams())
        fail(engine, error)
        death = await engine.llm.wait_for_death()
        assert type(error).__name__ in death.message
        with pytest.raises(ProcessDeadError):
            await read(stream)
        assert engine.llm.state == "dead"

    run(scene)


def test_what_the_loop_cannot_handle_is_a_death_and_the_engine_is_replaced():
    async def scene(engine: FakeEngine) -> None:
        engine.client.emit(StepOutputs(outputs=None))  # type: ignore[arg-type]
        await until(lambda: engine.client.num_replaced == 1)
        assert await read(await engine.llm.submit(["hi"], SamplingParams())) == "hello world"

    run(scene)


def test_an_engine_that_dies_when_only_readers_are_left_is_not_missed():
    async def scene(engine: FakeEngine) -> None:
        stream = await engine.llm.submit(["hi"], SamplingParams())
        await until(lambda: engine.llm.num_unfinished == 0)
        draining = asyncio.create_task(engine.llm.drain())
        dying = asyncio.create_task(engine.llm.wait_for_death())
        await asyncio.sleep(0)
        engine.client.die()
        assert await read(stream) == "hello world"
        await draining
        assert not dying.done()
        assert engine.client.num_replaced == 0
        dying.cancel()

    run(scene)


class Clock:
    """The time module, with a clock that a test can set forward, as a suspension of the process does."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.mark.parametrize("is_replacing_workers", [False, True])
def test_time_in_which_this_process_was_suspended_is_not_the_engines_silence(monkeypatch, is_replacing_workers):
    clock = Clock()
    monkeypatch.setattr(engine_watch, "time", clock)

    async def scene(engine: FakeEngine) -> None:
        engine.client.gate.clear()
        engine.client.is_silent = True
        stream = await engine.llm.submit(["hi"], SamplingParams())
        engine.llm.engines.slots[0].recovery.is_replacing_workers = is_replacing_workers
        for _ in range(30):  # half of the limit at most between two of them
            clock.ahead += 10_000.0
            await asyncio.sleep(0.03)
        assert engine.client.killed_because is None
        engine.llm.engines.slots[0].recovery.is_replacing_workers = False
        await until(lambda: engine.client.num_replaced == 1)  # it is found all the same
        assert "hangs" in (engine.client.killed_because or "")
        engine.client.is_silent = False
        engine.client.gate.set()
        assert await read(stream) == "hello world"

    run(scene)


def test_an_engine_that_answers_late_has_stalled_and_goes_on(monkeypatch):
    monkeypatch.setattr(engine_watch, "_LOOK_SECONDS", 0.01)

    async def scene(engine: FakeEngine) -> None:
        slot, answer = engine.llm.engines.slots[0], asyncio.Event()
        watch = engine_watch.EngineWatch(engine.client, slot.recovery, lambda: 0.0, TimeSettings())
        watch.is_asking = True

        async def ask() -> None:
            await answer.wait()

        def kinds() -> list[str]:
            return [incident.kind for incident in slot.recovery.incidents.last]

        answering = asyncio.create_task(watch._is_answered(asyncio.create_task(ask()), 1000.0))
        await until(lambda: kinds() == ["stall"])
        answer.set()
        assert await answering
        assert kinds() == ["stall", "recovery"]

    run(scene)
