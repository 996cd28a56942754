"""A fleet of models over fake engines, which start, answer and die when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from tests.unit.web_process.fake_engine_client import LIMIT_SECONDS, FakeEngine, FakeEngineClient, settings, until
from yeoul.config.parts import EnginePlace
from yeoul.config.settings import FleetSettings, Settings
from yeoul.messages.outputs import EngineReady
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.fleet.model_fleet import ModelFleet
from yeoul.web_process.fleet.policy import Budget


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
