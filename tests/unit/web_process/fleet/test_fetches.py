"""Models whose files are fetched hold up nothing else: neither what needs a thread, nor the server's end."""

from __future__ import annotations

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.web_process.fake_engine_client import LIMIT_SECONDS, FakeEngine, settings, until
from yeoul.errors import ModelFileError, UnavailableError
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.fleet.model_fleet import ModelFleet


class Fetches:
    """What takes as long as the test says; ``names`` are the threads that are at it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.may_end = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        self.names.append(threading.current_thread().name)
        self.may_end.wait(LIMIT_SECONDS)
        if self.error is not None:
            raise self.error


def fleet_of(fetches: Fetches, number: int) -> ModelFleet:
    models = [FleetModel(FakeEngine().llm, [f"model {index}"], loads_at_start=False) for index in range(number)]
    for model in models:
        model.llm.resolve = fetches.run  # type: ignore[method-assign]
    return ModelFleet(settings(), models)


def test_fetches_take_nobodys_thread_come_two_at_a_time_and_do_not_keep_a_server_that_stops():
    fetches = Fetches()

    async def play() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        fleet = fleet_of(fetches, 4)
        await fleet.start()
        for model in fleet.models:
            fleet.load(model)
        await until(lambda: len(fetches.names) == 2)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), LIMIT_SECONDS / 4) == 1
        assert [model.status for model in fleet.models] == ["downloading"] * 4
        await fleet.shutdown()
        await asyncio.wait_for(loop.shutdown_default_executor(), LIMIT_SECONDS / 4)
        assert fetches.names == ["fetch_model"] * 2

    try:
        asyncio.run(play())
    finally:
        fetches.may_end.set()


def test_who_waits_for_files_alone_has_nothing_loaded_and_is_told_what_becomes_of_them():
    fetches = Fetches()

    async def play() -> None:
        fleet = fleet_of(fetches, 2)
        await fleet.start()
        try:
            seeking = asyncio.create_task(fleet.until_found("model 0"))
            await until(lambda: bool(fetches.names))
            model = fleet.models[0]
            model.llm.served.resolve()
            fetches.may_end.set()
            await asyncio.wait_for(seeking, LIMIT_SECONDS)
            await until(lambda: model.status == "unloaded")
            assert not model.waits
            fetches.error = ModelFileError("there is no such model")
            with pytest.raises(UnavailableError, match="there is no such model") as refused:
                await asyncio.wait_for(fleet.until_found("model 1"), LIMIT_SECONDS)
            assert refused.value.is_final
            assert len(fetches.names) == 2
        finally:
            await fleet.shutdown()

    asyncio.run(play())


def test_who_asked_for_a_model_is_told_why_it_could_not_be_fetched():
    fetches = Fetches()
    fetches.error = ModelFileError("there is no such model")

    async def play() -> None:
        fleet = fleet_of(fetches, 2)
        await fleet.start()
        fleet.load(fleet.models[0])
        waiting = asyncio.create_task(fleet.models[0].wait_until_loaded())
        await until(lambda: bool(fetches.names))
        fetches.may_end.set()
        with pytest.raises(UnavailableError, match="there is no such model"):
            await asyncio.wait_for(waiting, LIMIT_SECONDS)
        await fleet.shutdown()

    asyncio.run(play())


def test_a_fetch_that_waits_for_its_turn_is_ended_at_once_and_one_that_is_wanted_again_is_fetched():
    fetches = Fetches()

    async def play() -> None:
        fleet = fleet_of(fetches, 4)

        def fetch(model: FleetModel) -> None:
            fetches.run()
            model.llm.served.resolve()

        for model in fleet.models:
            model.llm.resolve = functools.partial(fetch, model)  # type: ignore[method-assign]
        await fleet.start()
        try:
            seeking = [asyncio.create_task(fleet.until_found(model.name)) for model in fleet.models]
            await until(lambda: len(fetches.names) == 2)
            third, fourth = fleet.models[2:]
            fleet.unload(third)
            with pytest.raises(UnavailableError, match="has ended that"):
                await seeking[2]
            await until(lambda: third.status == "unloaded")
            assert third.failure is None
            fleet.unload(fourth)
            fleet.load(fourth)
            fetches.may_end.set()
            await seeking[3]
            assert len(fetches.names) == 3
            assert not third.is_found
        finally:
            fetches.may_end.set()
            await fleet.shutdown()

    asyncio.run(asyncio.wait_for(play(), LIMIT_SECONDS))
