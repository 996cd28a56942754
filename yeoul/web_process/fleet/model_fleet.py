"""ModelFleet: the models of one server: each is loaded when it is needed, and leaves when others need its memory.

What waits for a model is in its ``AsyncLLM`` as what waits for a replaced engine is: it has its place, and nothing of it is
lost. With one model that is never put to sleep the fleet does nothing. ``server.py`` makes it; knows no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Coroutine, Sequence

from yeoul.config.settings import Settings
from yeoul.errors import (
    ConfigError,
    ProcessDeadError,
    UnavailableError,
    YeoulError,
)
from yeoul.messages.outputs import EngineReady
from yeoul.own_thread import in_own_thread
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.fleet.fleet_model import FleetModel, not_loaded, unloadable
from yeoul.web_process.fleet.memory_plan import memory_need, with_planned_cache
from yeoul.web_process.fleet.model_events import ModelEvents
from yeoul.web_process.fleet.model_fetches import ModelFetches, told
from yeoul.web_process.fleet.model_names import find_model, name_in
from yeoul.web_process.fleet.policy import Budget, Room, make_room

logger = logging.getLogger(__name__)


class ModelFleet:
    """``settings`` are the server's. The first of ``models`` is meant where nobody says which, by what shows one of them."""

    def __init__(self, settings: Settings, models: Sequence[FleetModel], budget: Budget | None = None) -> None:
        self.settings = settings
        self.models = list(models)
        self.budget = budget or Budget()
        self.is_lasting = len(self.models) == 1 and self.models[0].ttl_seconds is None
        """Whether there is one model, and its engine is never ended before the server is."""
        self.on_first_load: Callable[[FleetModel], Coroutine[None, None, None]] = _nothing
        self._changed = asyncio.Event()
        self.events = ModelEvents()
        self._fetches = ModelFetches(self.events)
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def of_one(cls, llm: AsyncLLM) -> ModelFleet:
        """The fleet of a server with one model."""
        return cls(llm.settings, [FleetModel(llm, llm.settings.server.served_model_name)])

    # Which there are

    @property
    def names(self) -> list[str]:
        """All names that requests may use."""
        return [name for model in self.models for name in model.names]

    @property
    def first_names(self) -> list[str]:
        """The first of each model's."""
        return [model.name for model in self.models]

    def find(self, name: str | None) -> FleetModel:
        """The model of this name. Raises as ``find_model``."""
        return find_model(self.models, name)

    def shown(self, name: str | None) -> FleetModel:
        """The one to show: of this name, or the first one that is loaded, or the first one. Raises NotFoundError."""
        if name is not None:
            return self.find(name)
        return next((model for model in self.models if model.status == "loaded"), self.models[0])

    def is_open(self, model: FleetModel) -> bool:
        """Whether requests for it are taken."""
        return self.is_lasting or self.settings.fleet.models_autoload or model.is_resident

    async def look_at(self, name: str | None) -> FleetModel:
        """The one to show, with its text. Nothing is fetched or loaded for that, nor kept: who looks may do so for ever.

        Raises as ``shown``, and:
            UnavailableError: its files are not here, or cannot be used.
        """
        model = self.shown(name)
        if not self.is_lasting:
            if not model.is_found:
                raise UnavailableError(
                    f"the model {model.name!r} is not here: a request for it, or POST /models/load, fetches it"
                )
            await self._load_text(model)
        model.llm.check_health()
        return model

    async def take(self, name: str | None) -> ServedName:
        """The model for a request, which may be handed in from now on, whether its engine is there or not.

        Raises as ``find``, and:
            UnavailableError: its files are being fetched, or cannot be used; or it may not be loaded by a request.
        """
        model = self.find(name)
        if not self.is_lasting:
            model.note_use()
            await self._make_ready(model)
        model.llm.check_health()
        return ServedName(name_in(model.names, name), model.llm)

    async def _make_ready(self, model: FleetModel) -> None:
        if not self.is_open(model):
            raise not_loaded(model.name)
        if not model.is_found:
            self.load(model)
            before = "" if model.failure is None else f"; the last time it could not be: {model.failure.message}"
            raise UnavailableError(f"the model {model.name!r} is being fetched{model.so_far}{before}", retry_after_seconds=5)
        await self._load_text(model)

    async def _load_text(self, model: FleetModel) -> None:
        try:
            await model.llm.served.load()
        except YeoulError as error:
            raise unloadable(model.name, error) from None

    async def until_found(self, name: str | None) -> None:
        """Returns when the files of this model are here, which are fetched if they are not; nothing is loaded for that.

        Raises as ``take``.
        """
        model = self.find(name)
        if not (self.is_lasting or model.is_found):
            if not self.is_open(model):
                raise not_loaded(model.name)
            self._changed.set()
            await model.wait_until_found()

    async def until_loaded(self, llm: AsyncLLM) -> None:
        """Returns when the engine is there. Raises UnavailableError where it cannot be."""
        model = next(one for one in self.models if one.llm is llm)
        if not self.is_lasting and model.status != "loaded":
            self.load(model)
            await model.wait_until_loaded()

    # What is done with them

    def load(self, model: FleetModel) -> None:
        """It is to be in memory as soon as there is room."""
        model.note_use()
        model.is_asked_to_go = model.is_unwanted = False
        if model.status != "loaded":
            model.is_asked_to_come = True
            model.want()
        self._changed.set()

    def unload(self, model: FleetModel) -> None:
        """It is to leave as soon as it has finished what it has; if it is not there, who waits for it still does.

        One that is being fetched is not, and who waits for that is told.
        """
        model.is_asked_to_come, model.is_asked_to_go = False, model.status in ("loading", "loaded")
        if model.status == "downloading":
            self._fetches.end(model)
        if not model.is_asked_to_go:
            model.forget_ttl()
        self._changed.set()

    def keep(self, model: FleetModel, ttl_seconds: float | None) -> None:
        """It may be idle for so long, this once; None is for ever."""
        model.ttl_seconds = ttl_seconds
        self._changed.set()

    async def start(self) -> EngineReady | None:
        """Finds what is here, and loads what is to be loaded at the start; returns when requests can come.

        Returns:
            what the engine found, of one model.

        Raises:
            ConfigError, ProcessDeadError: the one model cannot be loaded.
        """
        first = self.models[0]
        if self.is_lasting:
            ready = await first.llm.start()
            first.status = "loaded"
            return ready
        for model in self.models:
            self._adopt(model)
        self._keep(asyncio.create_task(self._run(), name="run_fleet"))
        if len(self.models) > 1:
            return None
        with contextlib.suppress(UnavailableError):
            await first.wait_until_loaded()
        if first.failure is not None:
            raise first.failure
        return first.llm.ready

    def _adopt(self, model: FleetModel) -> None:
        def note_held() -> None:
            if model.status != "loaded" or model.llm.requests.holds_new:
                model.want()
                self._changed.set()

        requests, model.llm.is_woken, model.events = model.llm.requests, True, self.events
        requests.on_held, requests.on_use, requests.on_less = note_held, model.note_use, self._changed.set
        if model.loads_at_start:
            self.load(model)

    # What it does by itself

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                wake_at = self._settle(time.monotonic())
            except Exception:
                logger.exception("the models could not be looked at; they will be again")
                wake_at = time.monotonic() + 1.0
            seconds = None if wake_at == math.inf else max(0.0, wake_at - time.monotonic())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):  # wait_for() would lose a cancellation that comes with a change
                    await self._changed.wait()

    def _settle(self, now: float) -> float:
        """Does what is due; when there may be something to do again although nothing has happened."""
        for model in self.models:
            is_over = model.is_asked_to_go or model.expires_at <= now
            if model.status == "loaded" and is_over and not model.is_busy:
                self._begin_to_leave(model)
            if model.status == "unloaded" and not model.is_ordered and not self.settings.fleet.models_autoload:
                self._refuse_held(model)
            if model.status == "unloaded" and not model.is_found and (model.waits or model.is_sought):
                model.status = "downloading"
                self._keep(asyncio.create_task(self._fetch(model), name="fetch_model"))
        room = self._seat(now)
        for model in self.models:
            if model.status == "loaded":
                self._hold(model, model.is_asked_to_go or model.name in room.finishing)
        return min([room.look_again, *(model.expires_at for model in self.models)])

    def _refuse_held(self, model: FleetModel) -> None:
        """What came while it was about to leave is told what comes after that."""
        if model.llm.requests.num_held:
            model.refuse(not_loaded(model.name))

    def _hold(self, model: FleetModel, is_finishing: bool) -> None:
        """What comes for a model that is to leave waits for its next time, or is sent after all if it need not go."""
        requests = model.llm.requests
        if is_finishing:
            requests.holds_new = True
        elif requests.holds_new:
            requests.send_held()
            model.wanted_since = None

    def _seat(self, now: float) -> Room:
        """Loads whoever waits, in the order in which they came. What is to be done for the first one who has no room."""
        waiting = [one for one in self.models if one.waits and one.is_found and one.status != "downloading"]
        for model in sorted(waiting, key=lambda one: (one.is_wanted_in_gaps, one.wanted_since or now)):
            if model.status == "unloading":
                return Room()
            try:
                need = self._need_of(model)
            except Exception as error:  # its files are gone
                model.fail(told(error))
                continue
            others = {one.name: one for one in self.models if one.is_resident}
            residents = [one.as_resident() for one in others.values()]
            room = make_room(self.budget, residents, need, now, in_gaps=model.is_wanted_in_gaps)
            if not room.is_there and model.failure is not None and now < model.pauses_until:
                model.refuse(unloadable(model.name, model.failure, model.pauses_until - now))
                continue
            if not room.is_there:
                for name in room.going:
                    self._begin_to_leave(others[name])
                return room
            model.status = "loading"
            self._keep(asyncio.create_task(self._load(model), name="load_model"))
        return Room()

    def _need_of(self, model: FleetModel) -> int:
        if model.need is None:
            model.need = memory_need(model.llm.settings, model.llm.model, self.budget, len(self.models))
            if len(self.models) > 1 or self.settings.fleet.models_memory_bytes is not None:  # else its worker knows more
                model.llm.settings = with_planned_cache(model.llm.settings, model.need)
        if (why := self.budget.why_never(model.need.total)) is not None:
            raise ConfigError(why)
        return model.need.total

    def _begin_to_leave(self, model: FleetModel) -> None:
        model.status, model.llm.requests.holds_new = "unloading", True
        self._keep(asyncio.create_task(self._leave(model), name="unload_model"))

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _fetch(self, model: FleetModel) -> None:
        try:
            await self._fetches.fetch(model)
        finally:
            self._changed.set()

    async def _load(self, model: FleetModel) -> None:
        began = time.monotonic()
        try:
            if await asyncio.to_thread(model.llm.served.has_changed):
                await self._read_anew(model)
                return
            await model.llm.start()
        except Exception as error:
            try:
                await model.llm.rest()
            finally:
                model.note_load_failed(told(error))
                self._changed.set()
        else:
            model.note_loaded(time.monotonic() - began)
            model.watch = self._keep(asyncio.create_task(self._watch(model), name="watch_model"))
            if model.num_loads == 1:
                self._keep(asyncio.create_task(self.on_first_load(model), name="prove_calls"))
        self._changed.set()

    async def _read_anew(self, model: FleetModel) -> None:
        """Other files lie where it was found, that may need more room, or a fetch: it waits for its place again."""
        model.is_asked_to_come = not (model.is_asked_to_go or model.is_wanted_in_gaps)
        model.forget_files()
        await in_own_thread("find_model", model.find_here)
        if model.is_asked_to_come:  # whoever was told to send again does
            model.want()
        model.is_asked_to_go, model.status = False, "unloaded"
        self._changed.set()

    async def _watch(self, model: FleetModel) -> None:
        """An engine that is given up takes nothing with it but its own requests, which have been told."""
        error = await model.llm.wait_for_death()
        model.watch = None
        if model.status == "loaded":  # else it leaves already
            model.fail(error)
            self._begin_to_leave(model)

    async def _leave(self, model: FleetModel) -> None:
        if model.watch is not None:
            model.watch.cancel()
        try:
            await model.llm.rest()
        except Exception:
            logger.exception("the engine of %s could not be ended in order", model.name)
        model.note_left()
        self._changed.set()

    # As one

    @property
    def num_unfinished(self) -> int:
        """Requests (choices) in all of them."""
        return sum(model.llm.num_unfinished for model in self.models)

    @property
    def is_draining(self) -> bool:
        """Whether no new requests are taken, or soon will not be."""
        return any(model.llm.requests.is_closed or model.llm.drain_is_announced for model in self.models)

    def check_health(self) -> None:
        """Raises ProcessDeadError, UnavailableError: the one engine is not there. One of several matters to nobody else."""
        if self.is_lasting:
            self.models[0].llm.check_health()

    def announce_drain(self) -> None:
        """Its end is near; requests are still taken."""
        self.events.end()
        for model in self.models:
            model.llm.drain_is_announced = True

    async def drain(self) -> None:
        """Takes no new requests from now on; returns when the last one is finished and read."""
        await asyncio.gather(*(model.llm.drain() for model in self.models))

    async def wait_for_death(self) -> ProcessDeadError:
        """Returns when the one engine has died for good; of several each may be loaded again."""
        if not self.is_lasting:
            await asyncio.Event().wait()
        return await self.models[0].llm.wait_for_death()

    async def shutdown(self, *, at_once: bool = False) -> None:
        """Ends all engines; as of ``AsyncLLM``."""
        self.events.end()
        tasks = [task for task in self._tasks if task.get_name() != "unload_model"]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(model.llm.shutdown(at_once=at_once) for model in self.models))
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _nothing(_model: FleetModel) -> None:
    """Nobody wants to know."""
