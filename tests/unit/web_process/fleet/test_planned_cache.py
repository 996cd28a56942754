"""What is planned of a model's memory is what its engine is started with."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.unit.web_process.fake_engine_client import LIMIT_SECONDS, FakeEngine, FakeEngineClient, settings
from yeoul.config.parts import EnginePlace
from yeoul.config.settings import CacheSettings, FleetSettings, Settings
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.web_process.fleet import model_fleet
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.fleet.memory_plan import MemoryNeed
from yeoul.web_process.fleet.model_fleet import ModelFleet

PLANNED_BYTES = 64 << 20


class Engine(FakeEngine):
    """``started_with`` are the settings that its clients were made with."""

    def __init__(self, chosen: Settings) -> None:
        self.started_with: list[Settings] = []
        super().__init__(chosen)

    def _connect(
        self, chosen: Settings, files: ModelFiles, description: ModelDescription, max_model_len: int, place: EnginePlace
    ) -> FakeEngineClient:
        self.started_with.append(chosen)
        return super()._connect(chosen, files, description, max_model_len, place)


@pytest.mark.parametrize(
    ("num_models", "said", "found"), [(2, None, PLANNED_BYTES), (1, 1 << 30, PLANNED_BYTES), (1, None, None)]
)
def test_an_engine_has_the_cache_that_was_planned_and_a_lone_one_without_a_budget_chooses(
    monkeypatch, num_models, said, found
):
    fleet = FleetSettings(models_memory_bytes=said, model_ttl_seconds=1000.0)
    chosen = msgspec.structs.replace(settings(), cache=CacheSettings(), fleet=fleet)
    monkeypatch.setattr(model_fleet, "memory_need", lambda *_: MemoryNeed(0, PLANNED_BYTES, 0))

    async def run() -> None:
        engines = [Engine(chosen) for _ in range(num_models)]
        models = [
            FleetModel(one.llm, [f"model {number}"], loads_at_start=num_models == 1) for number, one in enumerate(engines)
        ]
        served = ModelFleet(chosen, models)
        for model in models:
            model.find_here()
        await served.start()
        try:
            await served.take("model 0")
            stream = await engines[0].llm.submit([[104, 105]], SamplingParams(max_tokens=1, seed=1))
            await asyncio.wait_for(stream.collect(), LIMIT_SECONDS)
            assert [one.cache.kv_cache_memory_bytes for one in engines[0].started_with] == [found]
        finally:
            await served.shutdown()

    asyncio.run(run())
