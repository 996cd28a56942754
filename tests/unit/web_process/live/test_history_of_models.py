"""The requests of all models are in one history, whose bound is that of the server."""

from __future__ import annotations

import contextlib

from tests.unit.web_process.fake_engine_client import FakeEngine, settings
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.fleet.model_fleet import ModelFleet
from yeoul.web_process.live.router import live_router
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.request_history import RequestHistory
from yeoul.web_process.store.tables import TABLES


def test_one_history_counts_what_all_models_keep(monkeypatch):
    made: list[RequestHistory] = []

    def make(*about: object) -> RequestHistory:
        made.append(RequestHistory(*about))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr("yeoul.web_process.live.router.RequestHistory", make)
    models = [FleetModel(FakeEngine().llm, [name]) for name in "abc"]
    for model in models:
        model.find_here()
    with contextlib.closing(Database(None, TABLES)) as database:
        context = ServerContext(ModelFleet(settings(), models), settings(), database)
        live_router(context)
    assert len(made) == 1
    assert len(context.lasting) >= len(models)
