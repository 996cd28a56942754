"""Who keeps a model's place in memory, and who waits for it: orders, replacements, fetches and batches take nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from tests.unit.web_process.fake_engine_client import LIMIT_SECONDS, until
from tests.unit.web_process.fleet.fake_fleet import Fleet, let_it_turn, play
from yeoul.config.settings import FleetSettings
from yeoul.errors import InvalidRequestError, ProcessDeadError, UnavailableError
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.fleet.policy import Budget
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.tables import TABLES


def test_nobody_leaves_again_and_again_for_a_model_that_cannot_be_loaded():
    async def scene(models: Fleet) -> None:
        models.c.errors = [ProcessDeadError("Worker_0", "was killed by signal 9 (SIGKILL)") for _ in range(3)]
        await models.a.ask()
        await models.b.ask()
        with pytest.raises(UnavailableError, match="killed by signal 9"):
            await models.c.ask()
        await models.a.ask()
        assert models.loaded == "ab"
        for _ in range(3):
            with pytest.raises(UnavailableError, match="killed by signal 9") as refused:
                await models.c.ask()
            assert 0 < refused.value.retry_after_seconds <= 10
        assert models.loaded == "ab"
        assert len(models.c.clients) == 1
        models.c.model.pauses_until = 0.0
        with pytest.raises(UnavailableError, match="killed by signal 9"):
            await models.c.ask()
        await models.a.ask()
        await models.b.ask()
        with pytest.raises(UnavailableError) as refused:
            await models.c.ask()
        assert 10 < refused.value.retry_after_seconds <= 20
        assert len(models.c.clients) == 2

    play(scene)


def test_who_waits_for_a_model_waits_on_when_another_one_lets_it_go():
    async def scene(models: Fleet) -> None:
        busy = [await models.a.begin(), await models.b.begin()]
        waiting = asyncio.create_task(models.fleet.until_loaded(models.c.llm))
        await until(lambda: models.a.llm.requests.holds_new)
        models.fleet.keep(models.c.model, 0)
        models.fleet.unload(models.c.model)
        await let_it_turn()
        models.a.gate.set()
        await waiting
        await let_it_turn()
        assert models.loaded == "bc"
        models.b.gate.set()
        await asyncio.gather(*busy)

    play(scene)


def test_an_order_to_leave_is_not_kept_by_a_model_that_is_not_there():
    async def scene(models: Fleet) -> None:
        models.fleet.unload(models.a.model)
        assert await models.a.ask() == "hello world"
        await let_it_turn()
        assert models.loaded == "a"
        models.fleet.unload(models.a.model)
        await until(lambda: models.a.model.status == "unloaded")
        models.a.errors.append(ProcessDeadError("Worker_0", "was killed by signal 9 (SIGKILL)"))
        models.a.may_start.clear()
        models.fleet.load(models.a.model)
        await until(lambda: models.a.model.status == "loading")
        models.fleet.unload(models.a.model)
        models.a.may_start.set()
        await until(lambda: models.a.model.status == "unloaded")
        assert await models.a.ask() == "hello world"
        await let_it_turn()
        assert models.loaded == "a"

    play(scene)


def test_a_model_whose_engine_is_being_replaced_keeps_its_place_and_its_streams():
    async def scene(models: Fleet) -> None:
        await models.b.ask()
        asked = await models.a.begin()
        also_asked = await models.b.begin()
        models.a.may_start.clear()
        models.a.client.die()
        await until(lambda: models.a.llm.lost is not None)
        last = asyncio.create_task(models.c.ask())
        await until(lambda: models.c.llm.requests.num_held == 1)
        await let_it_turn()
        models.fleet.unload(models.a.model)
        await let_it_turn()
        assert models.loaded == "ab"
        models.a.may_start.set()
        models.a.gate.set()
        assert await asked == await last == "hello world"
        assert len(models.a.clients) == 1
        models.b.gate.set()
        await also_asked

    play(scene, budget=Budget(2, turn_seconds=1000.0), may_be_replaced=True)


def test_a_model_that_was_to_finish_takes_nothing_new_once_its_engine_is_replaced():
    async def scene(models: Fleet) -> None:
        asked = await models.a.begin()
        models.fleet.unload(models.a.model)
        await until(lambda: models.a.llm.requests.holds_new)
        models.a.client.die()
        await until(lambda: models.a.client.num_replaced == 1 and models.a.llm.lost is None)
        behind = asyncio.create_task(models.a.ask())
        await until(lambda: models.a.llm.requests.num_held == 1)
        models.a.gate.set()
        assert await asked == await behind == "hello world"
        assert len(models.a.clients) == 2

    play(scene, may_be_replaced=True)


def test_a_model_is_not_loaded_while_the_fetch_of_its_files_still_ends():
    async def run() -> None:
        models = Fleet()
        resolve, may_end = models.a.llm.resolve, threading.Event()

        def resolve_and_wait() -> None:
            resolve()
            may_end.wait(LIMIT_SECONDS)

        models.a.llm.resolve = resolve_and_wait  # type: ignore[method-assign]
        await models.fleet.start()
        try:
            loading = asyncio.create_task(models.fleet.until_loaded(models.a.llm))
            await until(lambda: models.a.model.is_found)
            models.fleet.load(models.a.model)
            await let_it_turn()
            assert models.a.model.status == "downloading"
            assert models.a.clients == []
            may_end.set()
            await asyncio.wait_for(loading, LIMIT_SECONDS)
            assert len(models.a.clients) == 1
        finally:
            may_end.set()
            await models.fleet.shutdown()

    asyncio.run(run())


def test_without_autoload_what_comes_while_a_model_finishes_loads_it_no_more():
    async def run() -> None:
        async with Fleet(FleetSettings(models_autoload=False)) as models:
            await models.fleet.until_loaded(models.a.llm)
            await models.fleet.take("a")
            busy = await models.a.begin()
            models.fleet.unload(models.a.model)
            await until(lambda: models.a.llm.requests.holds_new)
            behind = asyncio.create_task(models.a.ask())
            await until(lambda: models.a.llm.requests.num_held == 1)
            models.a.gate.set()
            assert await busy == "hello world"
            with pytest.raises(InvalidRequestError, match="POST /models/load"):
                await asyncio.wait_for(behind, LIMIT_SECONDS)
            assert models.a.model.status == "unloaded"
            assert len(models.a.clients) == 1

    asyncio.run(run())


def test_a_busy_model_that_is_to_stay_after_all_waits_for_nothing():
    async def scene(models: Fleet) -> None:
        busy = await models.a.begin()
        models.fleet.unload(models.a.model)
        await until(lambda: models.a.llm.requests.holds_new)
        models.fleet.load(models.a.model)
        await until(lambda: not models.a.llm.requests.holds_new)
        assert models.a.model.wanted_since is None
        assert not models.a.model.is_asked_to_come
        models.a.gate.set()
        assert await busy == "hello world"
        assert models.loaded == "a"

    play(scene)


def test_a_model_that_leaves_already_does_not_leave_once_more(monkeypatch):
    async def scene(models: Fleet) -> None:
        await models.a.ask()

        async def die_late() -> ProcessDeadError:
            return ProcessDeadError("Worker_0", "was killed by signal 9 (SIGKILL)")

        monkeypatch.setattr(models.a.llm, "wait_for_death", die_late)
        models.fleet.unload(models.a.model)
        await until(lambda: models.a.model.status == "unloaded")
        await models.fleet._watch(models.a.model)
        assert models.a.model.status == "unloaded"
        assert models.a.model.failure is None

    play(scene)


def test_a_batch_costs_no_model_that_others_use_its_place():
    async def scene(models: Fleet) -> None:
        busy = [await models.a.begin(), await models.b.begin()]
        left = asyncio.create_task(models.c.ask(in_gaps=True))
        await until(lambda: models.c.llm.requests.num_held == 1)
        await let_it_turn()
        assert not models.a.llm.requests.holds_new
        assert not models.b.llm.requests.holds_new
        models.a.gate.set()
        assert await left == "hello world"
        assert models.loaded == "bc"
        models.b.gate.set()
        await asyncio.gather(*busy)

    play(scene, budget=Budget(2, turn_seconds=0.0))


def test_whoever_waits_for_an_answer_comes_before_a_batch_and_ends_its_turn():
    async def scene(models: Fleet) -> None:
        line = await models.a.begin(in_gaps=True)
        await models.b.begin()
        behind = asyncio.create_task(models.c.ask(in_gaps=True))
        await until(lambda: models.c.llm.requests.num_held == 1)
        assert not models.a.llm.requests.holds_new
        awaited = asyncio.create_task(models.c.ask())
        await until(lambda: models.a.llm.requests.holds_new)
        assert not models.b.llm.requests.holds_new
        models.a.gate.set()
        assert await line == await awaited == await behind == "hello world"
        models.b.gate.set()

    play(scene, budget=Budget(2, turn_seconds=1000.0))


def test_who_only_tries_whether_a_model_answers_lets_it_be_idle():
    async def scene(models: Fleet) -> None:
        await models.a.ask()
        await let_it_turn()
        used = models.a.model.last_used
        terms = ServiceTerms(is_probe=True)
        probe = await models.a.llm.submit([[0]], SamplingParams(max_tokens=1, seed=1), terms=terms)
        await probe.collect()
        probe.close()
        assert models.a.model.last_used == used
        await models.a.ask()
        assert models.a.model.last_used > used

    play(scene)


def test_who_only_looks_at_a_model_lets_it_be_idle():
    async def scene(models: Fleet) -> None:
        await models.a.ask()
        await let_it_turn()
        used = models.a.model.last_used
        with contextlib.closing(Database(None, TABLES)) as database:
            context = ServerContext(models.fleet, models.fleet.settings, database)
            assert await context.find_shown("a") is models.a.model
            assert models.a.model.last_used == used
            await context.find_model("a")
        assert models.a.model.last_used > used

    play(scene)
