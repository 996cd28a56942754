"""The models of a server as it is started: which are loaded at once, and what becomes of those that cannot be used."""

from __future__ import annotations

import asyncio

import msgspec

from tests.unit.web_process.fake_engine_client import LIMIT_SECONDS, FakeEngine, settings
from yeoul.config.models import ModelChoice
from yeoul.config.settings import FleetSettings
from yeoul.web_process.fleet import made


def test_one_model_that_leaves_when_it_is_idle_is_loaded_at_the_start_and_no_request_is_needed(monkeypatch):
    chosen = msgspec.structs.replace(settings(), fleet=FleetSettings(model_ttl_seconds=60))
    monkeypatch.setattr(made, "AsyncLLM", lambda of_model, **_: FakeEngine(of_model).llm)

    async def play() -> None:
        fleet = made.make_fleet(chosen, [ModelChoice(settings=chosen, names=["one"])])
        try:
            assert await asyncio.wait_for(fleet.start(), LIMIT_SECONDS) is not None
            assert (fleet.models[0].status, fleet.models[0].num_loads) == ("loaded", 1)
        finally:
            await fleet.shutdown()

    asyncio.run(play())
