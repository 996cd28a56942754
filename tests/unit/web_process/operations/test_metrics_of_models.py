"""A scrape of many models leaves the event loop its turns, and waits for all engines at once."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import msgspec
from prometheus_client import generate_latest

from tests.unit.web_process.fake_engine_client import LIMIT_SECONDS, FakeEngine, settings
from yeoul.config.settings import FleetSettings
from yeoul.messages.topology import EngineReport
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.fleet.model_fleet import ModelFleet
from yeoul.web_process.operations.metrics import Metrics, render_all
from yeoul.web_process.operations.system_metrics import SystemMetrics
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.tables import TABLES

NUM_MODELS = 4


def models_of(number: int) -> list[FleetModel]:
    chosen = msgspec.structs.replace(settings(), fleet=FleetSettings())
    models = [FleetModel(FakeEngine(chosen).llm, [f"model {index}"], loads_at_start=False) for index in range(number)]
    for model in models:
        model.find_here()
    return models


def test_each_model_is_collected_in_a_turn_of_the_loop_and_the_text_is_written_in_a_thread(monkeypatch):
    turn, turns, writers = 0, [], []

    def note_and_write(*about: object) -> bytes:
        writers.append(threading.current_thread())
        return generate_latest(*about)  # type: ignore[arg-type]

    async def play() -> None:
        async def count() -> None:
            nonlocal turn
            while True:
                turn += 1
                await asyncio.sleep(0)

        models = models_of(NUM_MODELS)
        metrics = [Metrics(model) for model in models]
        for one in metrics:
            for registry in one.registries:
                collect = registry.collect

                def note(collect=collect):
                    turns.append(turn)
                    return collect()

                registry.collect = note  # type: ignore[method-assign]
        monkeypatch.setattr("yeoul.web_process.operations.of_models.generate_latest", note_and_write)
        counting = asyncio.create_task(count())
        text = (await render_all(models, metrics)).decode()
        counting.cancel()
        assert all(f'model_name="model {index}"' in text for index in range(NUM_MODELS))
        assert len(writers) == 2
        assert threading.main_thread() not in writers
        assert len(set(turns)) == 2 * NUM_MODELS

    asyncio.run(play())


def test_engines_of_all_models_are_looked_at_side_by_side():
    async def play() -> None:
        models = models_of(NUM_MODELS)
        all_look = asyncio.Barrier(NUM_MODELS)

        async def look() -> list[EngineReport]:
            await all_look.wait()
            return []

        for model in models:
            model.llm.engines.look = look  # type: ignore[method-assign]
        with contextlib.closing(Database(None, TABLES)) as database:
            system = SystemMetrics(ServerContext(ModelFleet(settings(), models), settings(), database))
            text = await asyncio.wait_for(system.render(), LIMIT_SECONDS / 4)
        assert b'yeoul:max_requests_running{model_name="model 3"}' in text

    asyncio.run(play())
