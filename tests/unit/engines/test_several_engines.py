"""Several engines behind one AsyncLLM: where requests go, how they start, and what is told of all as one."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.unit.engines.scenes import LONG, hold, holder_of, run, several, text_of
from tests.unit.web_process.fake_engine_client import FakeEngine, until
from yeoul.config.settings import ServerSettings
from yeoul.errors import ConfigError
from yeoul.messages.outputs import EngineReady, WorkersLost, WorkersReplaced
from yeoul.messages.requests import AbortRequests, UtilityCall
from yeoul.messages.sampling import SamplingParams
from yeoul.recovery import restart_budget
from yeoul.web_process.engine.service_terms import ServiceTerms


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(restart_budget, "_FIRST_PAUSE_SECONDS", 0.01)


def test_requests_are_spread_and_those_that_begin_alike_are_together():
    async def scene(engine: FakeEngine) -> None:
        hold(engine)
        for token in range(8):
            await engine.llm.submit([[token]], SamplingParams())
        assert [len(client.added) for client in engine.clients] == [4, 4]
        await engine.llm.submit([LONG], SamplingParams())
        first = holder_of(engine, LONG)
        await engine.llm.submit([[*LONG, 6]], SamplingParams())
        assert holder_of(engine, [*LONG, 6]) is not first, "the request before it costs more than its short beginning"
        await engine.llm.submit([[*LONG, 7]], SamplingParams())
        await engine.llm.submit([[*LONG, 8]], SamplingParams())
        assert [len(client.added) for client in engine.clients] == [6, 6]
        assert engine.llm.num_unfinished == 12

    run(scene)


def test_choices_of_one_prompt_go_together_and_prompts_of_one_request_apart():
    async def scene(engine: FakeEngine) -> None:
        stream = await engine.llm.submit([[token] for token in range(8)], SamplingParams(n=3))
        for token in range(8):
            adds = [add for add in holder_of(engine, [token]).added if add.prompt_token_ids == [token]]
            assert [add.choice_index for add in adds] == [0, 1, 2]
        assert [len(client.added) for client in engine.clients] == [12, 12]
        assert sorted(await text_of(stream)) == sorted("hello world" * 24)

    run(scene)


def test_all_engines_have_to_become_ready():
    async def play() -> None:
        engine = FakeEngine(several(3))
        await asyncio.to_thread(engine.llm.resolve)
        engine.llm.spawn()

        async def fail():
            raise ConfigError("no such device")

        engine.clients[1].start = fail  # type: ignore[method-assign]
        with pytest.raises(ConfigError, match="no such device"):
            await engine.llm.start()
        assert all(client.is_stopped for client in engine.clients)

    asyncio.run(play())


def test_what_waited_for_all_engines_is_computed_by_all():
    async def scene(engine: FakeEngine) -> None:
        hold(engine)
        await engine.llm.rest()
        engine.llm.is_woken = True
        for token in range(8):
            await engine.llm.submit([[token]], SamplingParams())
        assert engine.llm.requests.num_held == 8
        hold(engine, is_held=False)
        await engine.llm.start()
        assert [len(client.added) for client in engine.clients[-2:]] == [4, 4]

    run(scene)


def test_an_engine_that_is_replaced_as_all_come_to_rest_is_not_taken_for_one_that_computes():
    async def scene(engine: FakeEngine) -> None:
        (client,) = engine.clients
        replace, is_asked, may_come = client.replace, asyncio.Event(), asyncio.Event()

        async def wait_and_replace():
            is_asked.set()
            await may_come.wait()
            return await replace()

        client.replace = wait_and_replace  # type: ignore[method-assign]
        engine.llm.is_woken = True
        client.die()
        await is_asked.wait()
        may_come.set()
        await engine.llm.rest()
        num_sent = len(client.sent)
        await engine.llm.submit([[1]], SamplingParams())
        assert (engine.llm.requests.num_held, len(client.sent)) == (1, num_sent)

    run(scene, several(1))


def test_engines_that_would_not_give_the_same_answers_do_not_start():
    async def play() -> None:
        engine = FakeEngine(several())
        await asyncio.to_thread(engine.llm.resolve)
        engine.llm.spawn()
        start = engine.clients[1].start

        async def differ():
            return msgspec.structs.replace(await start(), model_fingerprint="fp_of_another_device")

        engine.clients[1].start = differ  # type: ignore[method-assign]
        with pytest.raises(ConfigError, match="not alike"):
            await engine.llm.start()

    asyncio.run(play())


def test_what_goes_together_is_told_as_one():
    async def scene(engine: FakeEngine) -> None:
        assert engine.llm.ready is not None
        assert engine.llm.ready.num_blocks == 128
        assert engine.llm.max_num_running == 512
        streams = [await engine.llm.submit([[token]], SamplingParams()) for token in range(4)]
        await asyncio.gather(*map(text_of, streams))
        await until(lambda: engine.llm.statistics.num_blocks == 128)
        assert [client.name for client in engine.clients] == ["EngineCore_0", "EngineCore_1"]

    run(scene)


def test_a_tenant_with_a_crowd_in_all_engines_does_not_keep_another_from_its_turn():
    async def scene(engine: FakeEngine) -> None:
        hold(engine)
        crowd, few = ServiceTerms(tenant="many"), ServiceTerms(tenant="few")
        for number in range(40):
            await engine.llm.submit([[number]], SamplingParams(), terms=crowd)
        for number in range(4):
            await engine.llm.submit([[100 + number]], SamplingParams(), terms=few)
        of_few = [sum(add.tenant == "few" for add in client.added) for client in engine.clients]
        assert of_few == [2, 2]

    run(scene, msgspec.structs.replace(several(), server=ServerSettings(api_key=["a", "b"])))


@pytest.mark.parametrize("dies", [False, True])
def test_an_engine_that_cannot_be_asked_to_forget_its_cache_does_so_before_anything_else(dies):
    async def scene(engine: FakeEngine) -> None:
        one, other = engine.clients
        may_start, start = asyncio.Event(), one.start

        async def start_later() -> EngineReady:
            await may_start.wait()
            return await start()

        if dies:
            one.start = start_later  # type: ignore[method-assign]
            one.die()
        else:
            one.emit(WorkersLost("Worker_0", "was killed by signal 9 (SIGKILL)", -9))
        await until(lambda: engine.llm.engines.slots[0].state == "recovering")
        assert await engine.llm.call("reset_prefix_cache") == "reset_prefix_cache", "of the one that computes"
        stream = await engine.llm.submit([[1]], SamplingParams())
        may_start.set()
        if not dies:
            one.emit(WorkersReplaced([], 1.0))
        await until(lambda: engine.llm.engines.slots[0].state == "ready")
        for token in range(2, 6):
            await engine.llm.submit([[token]], SamplingParams())
        first, *rest = [message for message in one.sent if not isinstance(message, AbortRequests)]
        assert isinstance(first, UtilityCall)
        assert first.method == "reset_prefix_cache"
        assert rest
        assert not any(isinstance(message, UtilityCall) for message in (*rest, *other.sent))
        one.die()
        await until(lambda: one.num_replaced == 1 + dies)
        await until(lambda: engine.llm.engines.slots[0].state == "ready")
        assert sum(isinstance(message, UtilityCall) for message in one.sent) == 1, "it has been told already"
        assert await text_of(stream) == "hello world"

    run(scene)
