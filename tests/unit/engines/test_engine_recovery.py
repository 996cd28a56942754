"""A dead EngineCore is replaced, and no reader of a stream can tell from what comes."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.unit.web_process.fake_engine_client import FakeEngine, settings, until
from yeoul.config.settings import RecoverySettings, SchedulerSettings, Settings, TimeSettings
from yeoul.errors import ConfigError, InvalidRequestError, ProcessDeadError, RequestFailedError
from yeoul.messages.outputs import (
    EngineDead,
    RequestFault,
    RequestOutput,
    StepOutputs,
    WorkerInfo,
    WorkersLost,
    WorkersReplaced,
)
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.statistics import EngineStatistics
from yeoul.recovery import restart_budget
from yeoul.web_process.engine.request_stream import RequestStream

DEATH = ProcessDeadError("EngineCore", "was killed by signal 9 (SIGKILL)", exit_code=-9)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(restart_budget, "_FIRST_PAUSE_SECONDS", 0.01)


def run(scene, chosen: Settings | None = None) -> None:
    async def whole() -> None:
        async with FakeEngine(chosen, may_be_replaced=True) as engine:
            await asyncio.wait_for(scene(engine), 10.0)

    asyncio.run(whole())


async def text_of(stream: RequestStream) -> str:
    text = "".join([output.text async for output in stream])
    stream.close()
    return text


async def a_few_tokens(engine: FakeEngine, stream: RequestStream) -> str:
    """Lets the engine make some, and reads them."""
    text = ""
    while len(text) < 3:
        text += (await anext(stream)).text
    engine.client.gate.clear()
    return text


def test_a_stream_goes_on_where_it_was():
    async def scene(engine: FakeEngine) -> None:
        stream = await engine.llm.submit(["hi"], SamplingParams(stop=["wor!"]))
        text = await a_few_tokens(engine, stream)
        engine.client.die()
        await until(lambda: engine.client.num_replaced == 1)
        engine.client.gate.set()
        assert text + await text_of(stream) == "hello world"
        first, second = engine.client.added
        assert (first.request_id, first.prompt_token_ids) == (second.request_id, second.prompt_token_ids)
        assert bytes(second.output_token_ids).startswith(b"hel")
        assert 0 <= first.age_seconds < second.age_seconds

    run(scene)


def test_what_comes_while_there_is_no_engine_waits_for_the_next_one():
    async def scene(engine: FakeEngine) -> None:
        engine.client.failures = [DEATH, DEATH]
        engine.client.die()
        await until(lambda: engine.llm.state == "recovering")
        stream = await engine.llm.submit(["hi"], SamplingParams())
        assert await text_of(stream) == "hello world"
        assert engine.client.num_replaced == 3
        assert len(engine.client.added) == 1
        assert engine.llm.state == "ready"

    run(scene)


def test_an_aborted_request_is_not_sent_again():
    async def scene(engine: FakeEngine) -> None:
        engine.client.gate.clear()
        engine.client.failures = [DEATH] * 4
        stream = await engine.llm.submit(["hi"], SamplingParams())
        engine.client.die()
        await until(lambda: engine.llm.state == "recovering")
        stream.close()
        await until(lambda: engine.llm.state == "ready")
        assert len(engine.client.added) == 1

    run(scene)


@pytest.mark.parametrize(
    "end",
    [
        EngineDead("Worker_0", "has no memory", exit_code=-9, is_final=True),
        EngineDead("EngineCore", "was killed by signal 9 (SIGKILL)", exit_code=-9),
    ],
)
def test_an_engine_that_is_given_up_fails_what_waits_with_the_last_cause(end):
    async def scene(engine: FakeEngine) -> None:
        engine.client.gate.clear()
        engine.client.failures = [DEATH] * 9
        stream = await engine.llm.submit(["hi"], SamplingParams())
        engine.client.emit(end)
        with pytest.raises(ProcessDeadError, match=end.cause.split()[-1].strip("()")):
            await text_of(stream)
        assert (await engine.llm.wait_for_death()).exit_code == -9
        assert engine.llm.state == "dead"
        assert engine.client.num_replaced == (0 if end.is_final else 3)

    run(scene, msgspec.structs.replace(settings(), recovery=RecoverySettings(max_restarts=3, recovery_reports=False)))


def test_a_file_that_is_gone_ends_the_recovery():
    async def scene(engine: FakeEngine) -> None:
        engine.client.failures = [ConfigError("the model file is gone")]
        engine.client.die()
        assert "the model file is gone" in (await engine.llm.wait_for_death()).message

    run(scene)


@pytest.mark.parametrize("number", [1, 2, 4, 30])
def test_a_request_that_kills_every_engine_fails_alone(number):
    async def scene(engine: FakeEngine) -> None:
        engine.client.kills = lambda add: add.prompt_token_ids == [66]
        engine.client.gate.clear()
        tokens = [66, *range(67, 66 + number)]
        streams = [await engine.llm.submit([[token]], SamplingParams()) for token in tokens]
        engine.client.gate.set()
        answers = await asyncio.gather(*map(text_of, streams), return_exceptions=True)
        assert isinstance(answers[0], RequestFailedError)
        assert "alone at last" in answers[0].message
        assert answers[1:] == ["hello world"] * (number - 1)
        assert engine.client.num_replaced <= 4 + (number - 1).bit_length()

    run(scene, roomy())


def roomy() -> Settings:
    return msgspec.structs.replace(settings(), scheduler=SchedulerSettings(max_num_waiting_requests=100))


def test_a_request_that_kills_after_some_tokens_is_found_too():
    async def scene(engine: FakeEngine) -> None:
        client = engine.client
        client.kills = lambda add: add.prompt_token_ids == [66] and client._num_made[add.request_id] >= 3
        streams = [await engine.llm.submit([[token]], SamplingParams()) for token in (66, 67, 68)]
        answers = await asyncio.gather(*map(text_of, streams), return_exceptions=True)
        assert isinstance(answers[0], RequestFailedError)
        assert answers[1:] == ["hello world"] * 2

    run(scene)


def test_who_has_only_waited_is_not_suspected():
    async def scene(engine: FakeEngine) -> None:
        client = engine.client
        client.max_num_running = 2
        client.gate.clear()
        streams = [await engine.llm.submit([[token]], SamplingParams()) for token in range(66, 74)]
        client.kills = lambda add: client.num_replaced < 2
        client.gate.set()
        assert await asyncio.gather(*map(text_of, streams)) == ["hello world"] * 8
        assert [add.num_deaths for add in client.added[16:]] == [2, 2, 0, 0, 0, 0, 0, 0]
        assert client.num_replaced == 2

    run(scene)


def test_an_engine_that_dies_whatever_it_computes_is_given_up():
    async def scene(engine: FakeEngine) -> None:
        engine.client.kills = lambda add: True
        streams = [await engine.llm.submit([[token]], SamplingParams()) for token in range(66, 106)]
        answers = await asyncio.gather(*map(text_of, streams), return_exceptions=True)
        assert "in a row that brought no token" in (await engine.llm.wait_for_death()).message
        assert engine.client.num_replaced < 25
        assert sum(isinstance(answer, RequestFailedError) for answer in answers) <= 6

    run(scene, roomy())


async def hear_of_replacement(engine: FakeEngine, number: int) -> None:
    await until(lambda: engine.client.num_replaced == number and engine.llm.state == "ready")


def test_a_refusal_is_no_progress():
    async def scene(engine: FakeEngine) -> None:
        engine.client.gate.clear()
        for num_deaths in (1, 2, 3):
            stream = await engine.llm.submit(["hi"], SamplingParams())
            refusal = RequestOutput(
                request_id=engine.client.added[-1].request_id, finish_reason="error", fault=RequestFault("no", 400)
            )
            engine.client.emit(StepOutputs([refusal]))
            with pytest.raises(InvalidRequestError):
                await text_of(stream)
            engine.client.die()
            if num_deaths < 3:
                await hear_of_replacement(engine, num_deaths)
        await engine.llm.wait_for_death()

    run(scene, msgspec.structs.replace(settings(), recovery=RecoverySettings(max_restarts=2, recovery_reports=False)))


def test_counters_go_on_where_those_of_the_dead_engine_ended():
    async def scene(engine: FakeEngine) -> None:
        engine.client.emit(StepOutputs([], EngineStatistics(num_running=2, total_steps=5, total_output_tokens=9)))
        await until(lambda: engine.llm.statistics.total_steps == 5)
        engine.client.die()
        await until(lambda: engine.client.num_replaced == 1)
        assert engine.llm.statistics == EngineStatistics(total_steps=5, total_output_tokens=9)
        engine.client.emit(StepOutputs([], EngineStatistics(num_running=1, total_steps=2, total_output_tokens=3)))
        await until(lambda: engine.llm.statistics.num_running == 1)
        assert engine.llm.statistics == EngineStatistics(num_running=1, total_steps=7, total_output_tokens=12)

    run(scene)


def test_lost_workers_are_a_state_of_the_engine():
    async def scene(engine: FakeEngine) -> None:
        engine.client.emit(WorkersLost("Worker_1", "was killed by signal 9 (SIGKILL)", -9))
        await until(lambda: engine.llm.state == "recovering")
        assert engine.llm.lost == "Worker_1 was killed by signal 9 (SIGKILL)"
        engine.client.emit(WorkersReplaced([WorkerInfo(0, 2, "cpu")], 1.0))
        await until(lambda: engine.llm.state == "ready")

    run(scene)


def test_a_draining_server_replaces_its_engine_only_for_what_still_runs():
    async def scene(engine: FakeEngine) -> None:
        engine.client.gate.clear()
        stream = await engine.llm.submit(["hi"], SamplingParams())
        draining = asyncio.create_task(engine.llm.drain())
        await asyncio.sleep(0)
        engine.client.die()
        engine.client.gate.set()
        assert await text_of(stream) == "hello world"
        await draining
        assert engine.client.num_replaced == 1
        engine.client.die()
        await until(lambda: "OutputQueueLoop" not in {task.get_name() for task in asyncio.all_tasks()})
        assert engine.client.num_replaced == 1

    run(scene)


@pytest.mark.parametrize("is_silent", [True, False])
def test_an_engine_that_gives_no_sign_of_life_is_killed(is_silent):
    async def scene(engine: FakeEngine) -> None:
        client = engine.client
        client.gate.clear()
        client.is_silent = is_silent
        stream = await engine.llm.submit(["hi"], SamplingParams())
        if is_silent:
            await until(lambda: client.num_replaced == 1)
            assert "hangs" in (client.killed_because or "")
            noted = [incident.kind for incident in engine.llm.engines.incidents.last]
            assert noted[:2] == ["stall", "death"]
        else:
            await asyncio.sleep(0.5)
            assert client.killed_because is None
            assert engine.llm.engines.incidents.last == []
        client.is_silent = False
        client.gate.set()
        assert await text_of(stream) == "hello world"

    chosen = msgspec.structs.replace(settings(), time=TimeSettings(engine_answer_timeout_seconds=0.1))
    run(scene, chosen)


def test_an_engine_that_a_signal_has_stopped_is_killed_once_somebody_waits_for_it():
    async def scene(engine: FakeEngine) -> None:
        engine.client.has_been_stopped = True
        await asyncio.sleep(0.3)
        assert engine.client.killed_because is None
        engine.client.gate.clear()
        stream = await engine.llm.submit(["hi"], SamplingParams())
        await until(lambda: engine.client.num_replaced == 1)
        assert "stopped by a signal" in (engine.client.killed_because or "")
        engine.client.gate.set()
        assert await text_of(stream) == "hello world"

    run(scene, msgspec.structs.replace(settings(), time=TimeSettings(engine_answer_timeout_seconds=0.1)))


@pytest.mark.parametrize("is_stopped", [True, False])
def test_an_engine_that_does_not_come_to_the_end_of_replacing_its_workers_is_replaced_itself(is_stopped):
    async def scene(engine: FakeEngine) -> None:
        engine.client.gate.clear()
        stream = await engine.llm.submit(["hi"], SamplingParams())
        engine.client.emit(WorkersLost("Worker_0", "was killed by signal 9 (SIGKILL)"))
        engine.client.has_been_stopped = is_stopped
        await until(lambda: engine.client.num_replaced == 1)
        assert ("stopped by a signal" if is_stopped else "no new ones") in (engine.client.killed_because or "")
        engine.client.gate.set()
        assert await text_of(stream) == "hello world"

    limits = TimeSettings(engine_answer_timeout_seconds=0.1, step_timeout_seconds=0.2, worker_ready_timeout_seconds=0.2)
    run(scene, msgspec.structs.replace(settings(), time=limits))


def test_a_request_that_got_lost_on_the_way_is_sent_again():
    async def scene(engine: FakeEngine) -> None:
        engine.client.num_to_lose = 2
        streams = [await engine.llm.submit(["hi"], SamplingParams(max_tokens=5)) for _ in range(3)]
        assert [await text_of(stream) for stream in streams] == ["hello"] * 3
        assert len(engine.client.added) == 5
        assert engine.client.num_replaced == 0

    run(scene, msgspec.structs.replace(settings(), time=TimeSettings(engine_answer_timeout_seconds=0.1)))


def test_a_request_that_never_arrives_fails():
    async def scene(engine: FakeEngine) -> None:
        engine.client.num_to_lose = 100
        stream = await engine.llm.submit(["hi"], SamplingParams(max_tokens=5))
        with pytest.raises(RequestFailedError, match="got lost 3 times"):
            await text_of(stream)
        assert len(engine.client.added) == 3
        assert engine.llm.num_unfinished == 0

    run(scene, msgspec.structs.replace(settings(), time=TimeSettings(engine_answer_timeout_seconds=0.1)))


def test_what_is_only_late_is_not_sent_again():
    async def scene(engine: FakeEngine) -> None:
        engine.client.gate.clear()
        stream = await engine.llm.submit(["hi"], SamplingParams())
        await asyncio.sleep(0.5)
        engine.client.gate.set()
        assert await text_of(stream) == "hello world"
        assert len(engine.client.added) == 1

    run(scene, msgspec.structs.replace(settings(), time=TimeSettings(engine_answer_timeout_seconds=0.1)))
