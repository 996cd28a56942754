"""Long prompts are computed by prefill engines, and go on elsewhere once they are kept; who is missing is done without."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.unit.engines.scenes import DEATH, hold, several, text_of
from tests.unit.web_process.fake_engine_client import FakeEngine, FakeEngineClient, until
from yeoul.messages.outputs import RequestOutput, StepOutputs, WorkersLost, WorkersReplaced
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.statistics import EngineStatistics
from yeoul.recovery import restart_budget

LONG = [5] * 240
HELLO = list(b"hello")


@pytest.fixture(autouse=True)
def _short_is_long(monkeypatch):
    monkeypatch.setattr("yeoul.engines.engine_table._MAX_NEW_TOKENS", 64)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(restart_budget, "_FIRST_PAUSE_SECONDS", 0.01)


def run(scene, number: int = 2, num_prefill: int = 1) -> None:
    async def whole() -> None:
        settings = several(number)
        parallel = msgspec.structs.replace(settings.parallel, num_prefill_engines=num_prefill)
        async with FakeEngine(msgspec.structs.replace(settings, parallel=parallel), may_be_replaced=True) as engine:
            await asyncio.wait_for(scene(engine), 30.0)

    asyncio.run(whole())


def answer(client: FakeEngineClient, add: AddRequest, *, is_kept: bool) -> None:
    output = RequestOutput(request_id=add.request_id, new_token_ids=HELLO, queue_seconds=0.0, is_kept=is_kept, turn=add.turn)
    client.emit(StepOutputs([output], begun=[add.request_id]))


def test_a_long_prompt_is_computed_by_the_prefill_engine_and_goes_on_in_the_other():
    async def scene(engine: FakeEngine) -> None:
        prefill, decode = engine.clients
        hold(engine)
        stream = await engine.llm.submit([LONG], SamplingParams())
        (add,) = prefill.added
        assert add.hands_over
        assert not decode.added
        answer(prefill, add, is_kept=False)
        assert (await anext(stream)).text == "hello"
        answer(prefill, msgspec.structs.replace(add), is_kept=True)
        await until(lambda: bool(decode.added))
        (later,) = decode.added
        assert (later.request_id, later.output_token_ids) == (add.request_id, HELLO * 2)
        assert not later.hands_over
        assert prefill.aborted == [add.request_id]
        answer(prefill, add, is_kept=True)  # what it had made by then
        hold(engine, is_held=False)
        text = await text_of(stream)
        assert text.startswith("hello")
        assert "hellohello" not in text
        assert engine.llm.num_unfinished == 0

    run(scene)


def test_short_prompts_and_those_that_are_known_go_where_they_are_answered():
    async def scene(engine: FakeEngine) -> None:
        prefill, decode = engine.clients
        hold(engine)
        await engine.llm.submit([[1]], SamplingParams())
        assert [add.hands_over for add in decode.added] == [False]
        await engine.llm.submit([LONG], SamplingParams())
        (add,) = prefill.added
        answer(prefill, add, is_kept=True)
        await until(lambda: len(decode.added) == 2)
        await engine.llm.submit([[*LONG, 6]], SamplingParams())
        assert [len(client.added) for client in engine.clients] == [1, 3]

    run(scene)


def test_without_its_prefill_engine_the_other_computes_all_and_without_that_one_prompts_stay():
    async def scene(engine: FakeEngine) -> None:
        prefill, decode = engine.clients
        hold(engine)
        lost = [WorkersLost(f"Worker_{number}", "was killed by signal 9 (SIGKILL)", -9) for number in range(2)]
        prefill.emit(lost[0])
        await until(lambda: engine.llm.engines.slots[0].state == "recovering")
        await engine.llm.submit([LONG], SamplingParams())
        assert [add.hands_over for add in decode.added] == [False]
        prefill.emit(WorkersReplaced([], 1.0))
        decode.emit(lost[1])
        await until(lambda: engine.llm.engines.slots[1].state == "recovering")
        await until(lambda: len(prefill.added) == 1)
        (add,) = prefill.added
        assert add.hands_over
        stream = await engine.llm.submit([[7] * 240], SamplingParams())
        answer(prefill, prefill.added[-1], is_kept=True)
        assert (await anext(stream)).text == "hello"
        assert len(decode.added) == 1, "there is nobody to go on with it"
        decode.emit(WorkersReplaced([], 1.0))
        await until(lambda: engine.llm.engines.slots[1].state == "ready")
        answer(prefill, prefill.added[-1], is_kept=True)
        await until(lambda: len(decode.added) == 2)

    run(scene)


def test_what_a_prefill_engine_without_workers_had_stays_where_it_is_answered_by_now():
    async def scene(engine: FakeEngine) -> None:
        prefill, decode, other = engine.clients
        hold(engine)
        stream = await engine.llm.submit([LONG], SamplingParams())
        answer(prefill, prefill.added[0], is_kept=False)
        await anext(stream)
        prefill.emit(WorkersLost("Worker_0", "was killed by signal 9 (SIGKILL)", -9))
        await until(lambda: bool(decode.added or other.added))
        holder, idle = (decode, other) if decode.added else (other, decode)
        assert not holder.added[0].hands_over
        prefill.emit(WorkersReplaced([], 1.0))
        await until(lambda: engine.llm.engines.slots[0].state == "ready")
        answer(holder, holder.added[0], is_kept=True)  # whatever it says
        await anext(stream)
        await engine.llm.submit([[1]], SamplingParams())  # by now all that was sent is there
        assert [len(client.added) for client in (prefill, holder)] == [1, 1]
        assert [add.prompt_token_ids for add in idle.added] == [[1]]

    run(scene, 3)


def test_what_was_to_go_back_to_an_engine_that_is_gone_for_good_goes_to_any_that_answers():
    async def scene(engine: FakeEngine) -> None:
        prefill, decode, other = engine.clients
        hold(engine)
        await engine.llm.submit([LONG], SamplingParams())
        (state,) = engine.llm.requests.engines[0].states.values()
        state.home = 2
        other.failures = [DEATH] * 100
        other.die()
        await until(lambda: engine.llm.engines.slots[2].state == "dead")
        answer(prefill, prefill.added[0], is_kept=True)
        await until(lambda: bool(decode.added))

    run(scene, 3)


def test_what_an_engine_made_before_it_let_a_request_go_is_not_taken_for_what_it_makes_when_it_has_it_again():
    async def scene(engine: FakeEngine) -> None:
        prefill, decode = engine.clients
        hold(engine)
        stream = await engine.llm.submit([LONG], SamplingParams())
        (first,) = prefill.added
        answer(prefill, first, is_kept=True)
        assert (await anext(stream)).text == "hello"
        await until(lambda: len(decode.added) == 1)
        decode.emit(WorkersLost("Worker_1", "was killed by signal 9 (SIGKILL)", -9))
        await until(lambda: len(prefill.added) == 2)
        again = prefill.added[1]
        assert again.output_token_ids == HELLO
        assert [add.turn for add in (first, *decode.added, again)] == [0, 1, 2]
        for add, token in ((first, "!"), (again, "?")):  # the first of them late
            output = RequestOutput(request_id=add.request_id, new_token_ids=[ord(token)], turn=add.turn)
            prefill.emit(StepOutputs([output]))
        assert (await anext(stream)).text == "?"
        stream.close()

    run(scene)


def test_room_in_a_prefill_engine_is_none_for_what_is_answered_already():
    async def scene(engine: FakeEngine) -> None:
        prefill, decode, other = engine.clients
        table = engine.llm.requests
        hold(engine)
        streams = [await engine.llm.submit([[token]], SamplingParams()) for token in range(1, 5)]
        full, empty = (EngineStatistics(num_blocks=64, num_used_blocks=used) for used in (64, 0))
        for client, statistics in ((prefill, empty), (other, full)):
            client.emit(StepOutputs([], statistics))
        for add in decode.added:
            answer(decode, add, is_kept=False)
        await until(lambda: table.engines[2].num_free_tokens == 0)
        moved = list(decode.added)
        decode.emit(WorkersLost("Worker_1", "was killed by signal 9 (SIGKILL)", -9))
        await until(lambda: engine.llm.engines.slots[1].state == "recovering")
        assert moved
        assert not decode.aborted, "there is room in the prefill engine alone"
        for stream in streams:
            stream.close()

    run(scene, 3)
