"""make_fleet(): the models of a server as its settings choose them; finds the files of those that are here."""

from __future__ import annotations

from collections.abc import Sequence

from yeoul.config.models import ModelChoice
from yeoul.config.settings import Settings
from yeoul.start_parts import START
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.served_model import Progress
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.fleet.memory_plan import find_budget
from yeoul.web_process.fleet.model_fleet import ModelFleet


def make_fleet(settings: Settings, choices: Sequence[ModelChoice], on_progress: Progress | None = None) -> ModelFleet:
    """A model that is not here is fetched later: one that is alone at the start, of several those that somebody asks for.

    Raises:
        ConfigError: a model cannot be used.
    """
    if len(choices) < 2:
        names = choices[0].names if choices else settings.server.served_model_name
        alone = ModelChoice(settings=settings, names=names, loads_at_start=True)
        model = _make_model(alone, on_progress)
        START.mark("set-up")
        model.find_here()
        return ModelFleet(settings, [model], find_budget(settings.fleet) if model.ttl_seconds is not None else None)
    START.mark("set-up")
    models = [_make_model(choice) for choice in choices]
    for model in models:
        model.find_here()
    return ModelFleet(settings, models, find_budget(settings.fleet))


def _make_model(choice: ModelChoice, on_progress: Progress | None = None) -> FleetModel:
    def note_progress(what: str, num_bytes_done: int, num_bytes: int) -> None:
        model.note_progress(what, num_bytes_done, num_bytes)
        if on_progress is not None:
            on_progress(what, num_bytes_done, num_bytes)

    llm = AsyncLLM(choice.settings, on_progress=note_progress)
    model = FleetModel(llm, choice.names, loads_at_start=choice.loads_at_start)
    return model
