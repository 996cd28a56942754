"""Several engines behind one AsyncLLM: each that dies is healed by itself while the others serve, and no reader can tell."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.engines.scenes import DEATH, hold, run, several, text_of
from tests.unit.web_process.fake_engine_client import FakeEngine, FakeEngineClient, until
from yeoul.errors import ProcessDeadError, RequestFailedError
from yeoul.messages.outputs import EngineDead, RequestOutput, StepOutputs, WorkersLost, WorkersReplaced
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.statistics import EngineStatistics
from yeoul.recovery import restart_budget


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(restart_budget, "_FIRST_PAUSE_SECONDS", 0.01)


def test_what_a_dead_engine_had_goes_on_in_another_at_once_where_it_was():
    async def scene(engine: FakeEngine) -> None:
        one, other = engine.clients
        stream = await engine.llm.submit([[1]], SamplingParams())
        text = ""
        while len(text) < 3:
            text += (await anext(stream)).text
        hold(engine)
        one.failures = [DEATH] * 2
        one.die()
        await until(lambda: bool(other.added))
        assert engine.llm.state == "ready"
        other.gate.set()
        assert text + await text_of(stream) == "hello world"
        (first,), (second,) = one.added, other.added
        assert bytes(second.output_token_ids).startswith(b"hel")
        assert (first.request_id, second.num_deaths) == (second.request_id, 0)
        await until(lambda: one.num_replaced == 3 and engine.llm.engines.slots[0].state == "ready")
        assert len(one.added) == 1

    run(scene)


def test_what_an_engine_without_workers_has_goes_on_in_another_at_once_but_what_they_may_have_died_of():
    async def scene(engine: FakeEngine) -> None:
        one, other = engine.clients
        stream = await engine.llm.submit([[1]], SamplingParams())
        text = ""
        while len(text) < 3:
            text += (await anext(stream)).text
        hold(engine)
        streams = [await engine.llm.submit([[token]], SamplingParams()) for token in range(2, 6)]
        suspect, waiting, *_ = [add for add in one.added if add.prompt_token_ids != [1]]
        lost = WorkersLost("Worker_0", "was killed by signal 9 (SIGKILL)", -9, [suspect.request_id])
        one.emit(lost)
        await until(lambda: len(one.aborted) == 2)
        (moved,) = [add for add in other.added if add.prompt_token_ids == [1]]
        assert bytes(moved.output_token_ids).startswith(b"hel")
        assert moved.num_deaths == 0
        assert set(one.aborted) == {moved.request_id, waiting.request_id}
        assert suspect.request_id not in {add.request_id for add in other.added}
        one.emit(lost)  # another try
        other.gate.set()
        assert text + await text_of(stream) == "hello world"
        one.emit(WorkersReplaced([], 1.0))
        one.gate.set()
        assert [await text_of(one) for one in streams] == ["hello world"] * 4
        assert engine.llm.num_unfinished == 0

    run(scene)


def test_what_has_left_an_engine_without_workers_goes_back_when_it_has_others_and_finds_its_blocks():
    async def scene(engine: FakeEngine) -> None:
        one, other = engine.clients
        stream = await engine.llm.submit([[1]], SamplingParams())
        text = (await anext(stream)).text
        hold(engine)
        one.emit(WorkersLost("Worker_0", "was killed by signal 9 (SIGKILL)", -9))
        await until(lambda: bool(other.added))
        (moved,) = other.added
        assert moved.hands_over
        kept = RequestOutput(request_id=moved.request_id, new_token_ids=[ord("!")], is_kept=True, turn=moved.turn)
        other.emit(StepOutputs([kept], begun=[moved.request_id]))
        while not text.endswith("!"):
            text += (await anext(stream)).text
        assert len(one.added) == 1, "it has no workers yet"
        one.emit(WorkersReplaced([], 1.0))
        await until(lambda: engine.llm.engines.slots[0].state == "ready")
        other.emit(StepOutputs([kept]))
        await until(lambda: len(one.added) == 2)
        back = one.added[-1]
        assert (back.request_id, back.hands_over) == (moved.request_id, False)
        assert bytes(back.output_token_ids).decode() == text + "!"
        assert other.aborted == [moved.request_id]
        stream.close()

    run(scene)


def test_what_an_engine_without_workers_has_stays_where_others_have_no_room_for_it():
    async def scene(engine: FakeEngine) -> None:
        one, other = engine.clients
        hold(engine)
        stream = await engine.llm.submit([[1]], SamplingParams())
        other.emit(StepOutputs([], EngineStatistics(num_used_blocks=60, num_blocks=64, total_steps=1)))
        await until(lambda: engine.llm.engines.slots[1].statistics.num_used_blocks == 60)
        one.emit(WorkersLost("Worker_0", "was killed by signal 9 (SIGKILL)", -9))
        await until(lambda: engine.llm.engines.slots[0].state == "recovering")
        assert not other.added
        assert not one.aborted
        one.emit(WorkersReplaced([], 1.0))
        hold(engine, is_held=False)
        assert await text_of(stream) == "hello world"

    run(scene)


def test_new_requests_go_past_an_engine_that_is_missing():
    async def scene(engine: FakeEngine) -> None:
        one, other = engine.clients
        starts = asyncio.Event()
        replace = one.replace

        async def wait_and_replace():
            await starts.wait()
            return await replace()

        one.replace = wait_and_replace  # type: ignore[method-assign]
        one.die()
        await until(lambda: engine.llm.engines.slots[0].state == "recovering")
        assert (engine.llm.state, engine.llm.lost) == ("ready", None)
        for token in range(4):
            assert await text_of(await engine.llm.submit([[token]], SamplingParams())) == "hello world"
        assert (len(one.added), len(other.added)) == (0, 4)
        starts.set()
        await until(lambda: engine.llm.engines.slots[0].state == "ready")
        await text_of(await engine.llm.submit([[9]], SamplingParams()))
        assert len(one.added) == 1

    run(scene)


def test_where_no_engine_is_left_for_a_while_requests_wait_and_go_on_in_the_first_that_comes():
    async def scene(engine: FakeEngine) -> None:
        one, other = engine.clients
        starts, never, replace = asyncio.Event(), asyncio.Event(), other.replace

        async def wait_for_ever():
            await never.wait()

        async def wait_and_replace():
            await starts.wait()
            return await replace()

        hold(engine)
        streams = [await engine.llm.submit([[token]], SamplingParams()) for token in range(4)]
        one.replace = wait_for_ever  # type: ignore[method-assign]
        one.die()
        await until(lambda: len(other.added) == 4)
        other.replace = wait_and_replace  # type: ignore[method-assign]
        other.die()
        await until(lambda: engine.llm.state == "recovering")
        assert "was killed" in (engine.llm.lost or "")
        late = await engine.llm.submit([[9]], SamplingParams())
        starts.set()
        other.gate.set()
        assert await asyncio.gather(*map(text_of, [*streams, late])) == ["hello world"] * 5
        assert engine.llm.engines.slots[0].state == "recovering"

    run(scene)


@pytest.mark.parametrize("number", [2, 9, 30])
@pytest.mark.parametrize("num_tokens", [0, 3])
def test_a_request_that_kills_every_engine_fails_alone_and_kills_no_third_one(number, num_tokens):
    async def scene(engine: FakeEngine) -> None:
        for client in engine.clients:
            client.kills = kills_at(client, num_tokens)
        hold(engine)
        tokens = [66, *range(67, 66 + number)]
        streams = [await engine.llm.submit([[token]], SamplingParams()) for token in tokens]
        hold(engine, is_held=False)
        answers = await asyncio.gather(*map(text_of, streams), return_exceptions=True)
        assert isinstance(answers[0], RequestFailedError)
        assert "alone at last" in answers[0].message
        assert answers[1:] == ["hello world"] * (number - 1)
        killed = sorted(client.num_replaced for client in engine.clients)
        assert killed[0] == 0
        assert killed[1] <= 1, "one that dies with many who had tokens may be anybody's fault"
        assert (killed[1] > 0) == (num_tokens > 0)
        assert killed[2] <= 4 + (number - 1).bit_length()
        assert engine.llm.state == "ready"

    run(scene, several(3))


def kills_at(client: FakeEngineClient, num_tokens: int):
    def kills(add: AddRequest) -> bool:
        return add.prompt_token_ids == [66] and client._num_made[add.request_id] >= num_tokens

    return kills


def test_while_somebody_is_under_suspicion_new_requests_go_elsewhere():
    async def scene(engine: FakeEngine) -> None:
        one, other = engine.clients

        def kill_once(add: AddRequest) -> bool:
            hold(engine)
            return True

        one.kills = kill_once
        await engine.llm.submit([[66]], SamplingParams())
        await until(lambda: len(one.added) == 2)
        for token in range(4):
            await engine.llm.submit([[token]], SamplingParams())
        assert len(other.added) == 4

    run(scene)


@pytest.mark.parametrize("is_final", [True, False])
def test_an_engine_that_is_given_up_hands_all_it_has_to_the_others_and_the_last_ones_end_is_the_end(is_final):
    async def scene(engine: FakeEngine) -> None:
        one, other = engine.clients
        hold(engine)
        streams = [await engine.llm.submit([[token]], SamplingParams()) for token in range(6)]
        dying = asyncio.create_task(engine.llm.wait_for_death())
        one.failures = [DEATH] * 9
        one.emit(EngineDead("Worker_0", "has no memory", exit_code=-9, is_final=is_final))
        await until(lambda: engine.llm.engines.slots[0].state == "dead" and one.is_stopped)
        assert len(other.added) == 6
        assert not dying.done()
        assert engine.llm.state == "ready"
        engine.llm.check_health()
        other.gate.set()
        assert await asyncio.gather(*map(text_of, streams)) == ["hello world"] * 6
        assert await engine.llm.call("ping") == "ping"
        other.gate.clear()
        last = await engine.llm.submit([[9]], SamplingParams())
        other.failures = [DEATH] * 9
        other.emit(EngineDead("EngineCore", "was killed by signal 9 (SIGKILL)", exit_code=-9, is_final=is_final))
        assert (await dying).exit_code == -9
        with pytest.raises(ProcessDeadError):
            await text_of(last)
        with pytest.raises(ProcessDeadError):
            engine.llm.check_health()

    run(scene, several(max_restarts=3))


def test_a_task_that_fails_ends_its_engine_alone():
    async def scene(engine: FakeEngine) -> None:
        one, other = engine.clients
        hold(engine)
        stream = await engine.llm.submit([[1]], SamplingParams())

        def fail() -> bool:
            raise RuntimeError("a bug")

        one.is_suspended = fail  # type: ignore[method-assign]
        await until(lambda: engine.llm.engines.slots[0].state == "dead")
        other.gate.set()
        assert await text_of(stream) == "hello world"
        await until(lambda: one.is_stopped)

    run(scene)
