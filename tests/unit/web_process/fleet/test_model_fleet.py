"""Several models of one server over fake engines: loaded when needed, gone when idle, nobody busy ended, nothing lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.web_process.fake_engine_client import until
from tests.unit.web_process.fleet.fake_fleet import Fleet, play
from yeoul.config.settings import FleetSettings
from yeoul.errors import InvalidRequestError, ModelFileError, NotFoundError, ProcessDeadError, UnavailableError
from yeoul.web_process.fleet import model_fleet
from yeoul.web_process.fleet.policy import Budget


def test_a_model_is_loaded_by_its_first_request_and_the_one_that_was_used_longest_ago_makes_room():
    async def scene(models: Fleet) -> None:
        assert models.loaded == ""
        assert await models.a.ask() == await models.b.ask() == "hello world"
        assert models.loaded == "ab"
        assert await models.c.ask() == "hello world"
        assert models.loaded == "bc"
        assert models.a.client.is_stopped

    play(scene)


def test_what_waits_for_a_model_is_in_its_queue_and_is_sent_in_its_order_when_it_is_there():
    async def scene(models: Fleet) -> None:
        models.a.may_start.clear()
        asked = [asyncio.create_task(models.a.ask()) for _ in range(3)]
        await until(lambda: models.a.llm.num_unfinished == 3)
        assert models.a.model.status == "loading"
        assert models.a.llm.requests.num_held == 3
        models.a.may_start.set()
        assert await asyncio.gather(*asked) == ["hello world"] * 3
        ids = [add.request_id for add in models.a.client.added]
        assert len(ids) == 3
        assert len(models.a.clients) == 1

    play(scene)


def test_a_busy_model_is_not_ended_and_who_waits_comes_when_it_has_finished():
    async def scene(models: Fleet) -> None:
        await models.b.ask()
        busy = await models.a.begin()
        waiting = [asyncio.create_task(models.c.ask()) for _ in range(3)]
        assert await asyncio.gather(*waiting) == ["hello world"] * 3
        assert models.loaded == "ac"  # b was idle, and one had to go for all three
        also_busy = await models.c.begin()
        last = asyncio.create_task(models.b.ask())
        await until(lambda: models.a.llm.requests.holds_new)  # it was loaded first, and its turn is over
        behind = asyncio.create_task(models.a.ask())
        await until(lambda: models.a.llm.requests.num_held == 1)
        assert not busy.done()
        models.a.gate.set()
        assert await busy == await last == "hello world"
        models.c.gate.set()
        assert await also_busy == await behind == "hello world"
        assert len(models.a.clients) == 2

    play(scene)


def test_who_leaves_the_queue_costs_no_model_its_place_and_what_was_held_for_it_goes_on():
    async def scene(models: Fleet) -> None:
        busy = [await models.a.begin(), await models.b.begin()]
        stream = await models.c.submit()
        await until(lambda: models.a.llm.requests.holds_new)
        held = asyncio.create_task(models.a.ask())
        await until(lambda: models.a.llm.requests.num_held == 1)
        stream.close()
        await until(lambda: not models.a.llm.requests.holds_new)
        for one in (models.a, models.b):
            one.gate.set()
        assert await asyncio.gather(*busy, held) == ["hello world"] * 3
        assert models.loaded == "ab"
        assert len(models.a.clients) == 1
        assert models.c.clients == []

    play(scene)


def test_a_model_that_cannot_start_tells_who_asked_and_the_next_one_tries_again():
    async def scene(models: Fleet) -> None:
        models.a.errors.append(ProcessDeadError("Worker_0", "was killed by signal 9 (SIGKILL)"))
        with pytest.raises(UnavailableError, match=r"'a' cannot be loaded: Worker_0 was killed by signal 9"):
            await models.a.ask()
        assert models.a.model.failure is not None
        assert await models.b.ask() == "hello world"
        assert await models.a.ask() == "hello world"
        assert models.a.model.failure is None

    play(scene)


def test_an_engine_that_is_given_up_takes_its_own_requests_with_it_and_nobody_elses():
    async def scene(models: Fleet) -> None:
        neighbour = await models.b.begin()
        lost = await models.a.begin()
        models.a.client.die()  # and may not be replaced
        with pytest.raises(ProcessDeadError):
            await lost
        await until(lambda: models.a.model.status == "unloaded")
        assert models.fleet.is_draining is False
        models.fleet.check_health()
        models.a.gate.set()
        assert await models.a.ask() == "hello world"
        models.b.gate.set()
        assert await neighbour == "hello world"

    play(scene)


def test_an_idle_model_goes_after_its_time_and_the_next_request_brings_it_back():
    async def scene(models: Fleet) -> None:
        busy = await models.b.begin()
        await models.a.ask()
        await until(lambda: models.a.model.status == "unloaded")
        assert models.loaded == "b"
        models.b.gate.set()
        await busy
        assert await models.a.ask() == "hello world"
        models.fleet.keep(models.a.model, None)
        await until(lambda: models.b.model.status == "unloaded")
        assert models.loaded == "a"

    play(scene, FleetSettings(model_ttl_seconds=0.02))


def test_what_comes_just_as_a_model_leaves_waits_for_its_next_time():
    async def scene(models: Fleet) -> None:
        await models.a.ask()
        models.fleet.unload(models.a.model)
        while models.a.model.status == "loaded":  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert models.a.model.status == "unloading"
        assert not models.a.client.is_stopped  # what leaves has not begun to
        assert await models.a.ask() == "hello world"
        assert len(models.a.clients) == 2

    play(scene)


def test_a_model_is_loaded_and_unloaded_by_order_once_it_has_finished():
    async def scene(models: Fleet) -> None:
        models.fleet.load(models.a.model)
        await models.a.model.wait_until_loaded()
        busy = await models.a.begin()
        models.fleet.unload(models.a.model)
        await until(lambda: models.a.llm.requests.holds_new)
        assert not busy.done()
        models.a.gate.set()
        assert await busy == "hello world"
        await until(lambda: models.a.model.status == "unloaded")

    play(scene)


def test_without_autoload_a_request_is_told_what_loads_a_model():
    async def run() -> None:
        async with Fleet(FleetSettings(models_autoload=False)) as models:
            with pytest.raises(InvalidRequestError, match="POST /models/load"):
                await models.fleet.take("a")
            models.fleet.load(models.a.model)
            await models.a.model.wait_until_loaded()
            await models.fleet.take("a")
            assert await models.a.ask() == "hello world"

    asyncio.run(run())


def test_a_model_that_can_never_fit_fails_its_requests_and_no_others():
    async def scene(models: Fleet) -> None:
        with pytest.raises(UnavailableError, match="--models-memory-bytes"):
            await models.a.ask()

    play(scene, budget=Budget(2, 1000))


def test_a_model_whose_files_are_gone_keeps_nobody_waiting_behind_it(monkeypatch):
    def find_nothing(*_: object) -> None:
        raise ModelFileError("the file is gone")

    async def scene(models: Fleet) -> None:
        monkeypatch.setattr(model_fleet, "memory_need", find_nothing)
        with pytest.raises(UnavailableError, match="the file is gone"):
            await models.a.ask()
        monkeypatch.undo()
        assert await models.b.ask() == "hello world"

    play(scene)


def test_a_name_that_nobody_has_and_none_at_all_are_told_what_there_is():
    async def scene(models: Fleet) -> None:
        with pytest.raises(NotFoundError, match="this server has a, b, c"):
            await models.fleet.take("d")
        with pytest.raises(InvalidRequestError, match="'model' is missing; this server has a, b, c"):
            await models.fleet.take(None)
        assert (await models.fleet.take("b:latest")).name == "b"

    play(scene)


def test_many_requests_to_all_models_at_once_are_all_answered():
    async def scene(models: Fleet) -> None:
        places = asyncio.Semaphore(8)

        async def ask(index: int) -> str:
            async with places:
                return await models.all[index % 3].ask()

        assert set(await asyncio.gather(*map(ask, range(300)))) == {"hello world"}
        assert all(one.llm.num_unfinished == 0 for one in models.all)

    play(scene)
