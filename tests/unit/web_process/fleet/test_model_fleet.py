"""Several models of one server over fake engines: loaded when needed, gone when idle, nobody busy ended, nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from tests.unit.web_process.fake_engine_client import LIMIT_SECONDS, FakeEngine, FakeEngineClient, settings, until
from yeoul.config.parts import EnginePlace
from yeoul.config.settings import FleetSettings, Settings
from yeoul.errors import InvalidRequestError, ModelFileError, NotFoundError, ProcessDeadError, UnavailableError
from yeoul.messages.outputs import EngineReady
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.fleet import model_fleet
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.fleet.model_fleet import ModelFleet
from yeoul.web_process.fleet.policy import Budget
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.tables import TABLES


class Client(FakeEngineClient):
    """``gate`` is shared by all engines of a model; ``errors`` are what the next starts end with."""

    def __init__(self, model: Model, *about: object) -> None:
        super().__init__(*about)  # type: ignore[arg-type]
        self._model = model
        self.gate = model.gate

    async def start(self) -> EngineReady:
        await self._model.may_start.wait()
        if self._model.errors:
            raise self._model.errors.pop(0)
        return await super().start()


class Model(FakeEngine):
    """A fake model of a fleet."""

    def __init__(self, name: str, chosen: Settings, *, may_be_replaced: bool) -> None:
        self.gate, self.may_start = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.may_start.set()
        self.errors: list[Exception] = []
        super().__init__(chosen, may_be_replaced=may_be_replaced)
        self.model = FleetModel(self.llm, [name], loads_at_start=False)

    def _connect(
        self, chosen: Settings, files: ModelFiles, description: ModelDescription, max_model_len: int, place: EnginePlace
    ) -> FakeEngineClient:
        self.clients.append(Client(self, chosen, files, description, max_model_len, place))
        self.client.may_be_replaced = self._may_be_replaced
        return self.client

    async def ask(self, *, in_gaps: bool = False) -> str:
        """A whole answer."""
        return "".join([output.text for output in await (await self.submit(in_gaps=in_gaps)).collect()])

    async def submit(self, *, in_gaps: bool = False) -> RequestStream:
        terms = ServiceTerms(in_gaps=in_gaps)
        return await self.llm.submit([[104, 105]], SamplingParams(max_tokens=32, seed=1), terms=terms)

    async def begin(self, *, in_gaps: bool = False) -> asyncio.Task[str]:
        """A request that its engine has, and that is not answered before the gate opens."""
        self.gate.clear()
        asking = asyncio.create_task(self.ask(in_gaps=in_gaps))
        await until(lambda: self.llm.requests.is_busy)
        return asking


class Fleet:
    """``a``, ``b`` and ``c``, of which two have room."""

    def __init__(
        self, fleet: FleetSettings | None = None, budget: Budget | None = None, *, may_be_replaced: bool = False
    ) -> None:
        chosen = msgspec.structs.replace(settings(), fleet=fleet or FleetSettings())
        self.a, self.b, self.c = self.all = [Model(name, chosen, may_be_replaced=may_be_replaced) for name in "abc"]
        self.fleet = ModelFleet(chosen, [one.model for one in self.all], budget or Budget(2, turn_seconds=0.001))

    async def __aenter__(self) -> Fleet:
        for one in self.all:
            one.model.find_here()
        await self.fleet.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.fleet.shutdown()

    async def take_all(self) -> None:
        for name in "abc":
            await self.fleet.take(name)

    @property
    def loaded(self) -> str:
        return "".join(one.model.name for one in self.all if one.model.status == "loaded")


def play(
    scene: Callable[[Fleet], Awaitable[None]],
    fleet: FleetSettings | None = None,
    budget: Budget | None = None,
    *,
    may_be_replaced: bool = False,
) -> None:
    async def run() -> None:
        async with Fleet(fleet, budget, may_be_replaced=may_be_replaced) as models:
            await models.take_all()
            await asyncio.wait_for(scene(models), LIMIT_SECONDS)

    asyncio.run(run())


async def let_it_turn() -> None:
    """Whatever is due happens."""
    for _ in range(20):
        await asyncio.sleep(0)


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
