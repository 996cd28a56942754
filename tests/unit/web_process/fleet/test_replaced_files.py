"""Models whose files were replaced while they were not in memory: read anew, in room that is made for what they need now."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.unit.web_process.fake_engine_client import LIMIT_SECONDS, until
from tests.unit.web_process.fleet.fake_fleet import Fleet, Model, let_it_turn, play
from yeoul.config.settings import Settings
from yeoul.errors import UnavailableError
from yeoul.web_process.engine.request_state import RequestState
from yeoul.web_process.engine.served_model import ServedModel
from yeoul.web_process.fleet import model_fleet
from yeoul.web_process.fleet.memory_plan import MemoryNeed
from yeoul.web_process.fleet.policy import Budget


async def sleep(models: Fleet, *ones: Model) -> None:
    """Those were loaded, and are not."""
    for one in ones:
        await one.ask()
        models.fleet.unload(one.model)
        await until(lambda one=one: one.model.status == "unloaded")  # type: ignore[misc]


def replace_files(one: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others lie where its were found, until it has looked at them."""
    served, found = one.llm.served, one.llm.model
    monkeypatch.setattr(served, "has_changed", lambda: served.model is found)


def test_a_model_whose_files_were_replaced_is_read_anew_at_its_next_load(monkeypatch):
    async def scene(models: Fleet) -> None:
        await sleep(models, models.a)
        found, text = models.a.llm.model, models.a.llm.text
        replace_files(models.a, monkeypatch)
        with pytest.raises(UnavailableError, match="have changed while the request waited"):
            await models.a.ask()
        await until(lambda: models.a.model.status == "loaded")
        assert models.a.llm.model is not found
        assert models.a.llm.text is not text
        assert models.a.model.need is not None
        assert await models.a.ask() == "hello world"

    play(scene)


def test_replaced_files_that_need_more_have_their_room_made_for_them(monkeypatch):
    needs = {"a": 40, "b": 40}

    async def scene(models: Fleet) -> None:
        def need_of(_: Settings, served: ServedModel, *_more: object) -> MemoryNeed:
            (name,) = [one.model.name for one in models.all if one.llm.model is served]
            return MemoryNeed(weights=needs[name], cache=0, processes=0)

        monkeypatch.setattr(model_fleet, "memory_need", need_of)
        await sleep(models, models.a)
        await models.b.ask()
        replace_files(models.a, monkeypatch)
        needs["a"] = 90
        with pytest.raises(UnavailableError, match="have changed"):
            await models.a.ask()
        await until(lambda: models.a.model.status == "loaded")
        assert models.loaded == "a"

    play(scene, budget=Budget(4, 100, turn_seconds=0.001))


def test_files_that_are_gone_are_fetched_anew_and_keep_no_place_meanwhile(monkeypatch):
    may_come = threading.Event()

    async def scene(models: Fleet) -> None:
        await sleep(models, models.a)
        replace_files(models.a, monkeypatch)
        resolve = models.a.llm.resolve
        monkeypatch.setattr(models.a.model, "find_here", lambda: None)
        monkeypatch.setattr(models.a.llm, "resolve", lambda: (may_come.wait(LIMIT_SECONDS), resolve()))
        try:
            with pytest.raises(UnavailableError, match="have changed"):
                await models.a.ask()
            await until(lambda: models.a.model.status == "downloading")
            assert await models.b.ask() == "hello world"
            assert models.a.model.status == "downloading"
        finally:
            may_come.set()
        await until(lambda: models.a.model.status == "loaded")
        assert models.a.model.progress == {}

    play(scene, budget=Budget(1, turn_seconds=0.001))


def test_a_model_that_is_to_go_while_its_new_files_are_looked_at_is_not_loaded(monkeypatch):
    async def scene(models: Fleet) -> None:
        await sleep(models, models.a)
        replace_files(models.a, monkeypatch)
        looks: list[str] = []

        def look() -> None:
            looks.append(models.a.model.status)
            models.fleet.unload(models.a.model)

        monkeypatch.setattr(models.a.model, "find_here", look)
        models.fleet.load(models.a.model)
        await until(lambda: looks == ["loading"] and models.a.model.status == "unloaded")
        await let_it_turn()
        assert (models.a.model.status, models.a.model.waits, models.a.model.is_asked_to_go) == ("unloaded", False, False)

    play(scene)


def test_what_was_tokenized_for_the_old_files_is_not_sent_to_the_new_ones(monkeypatch):
    async def scene(models: Fleet) -> None:
        await sleep(models, models.a)
        replace_files(models.a, monkeypatch)
        make, may_go_on, has_tokens = models.a.llm._new_requests.make, asyncio.Event(), asyncio.Event()

        async def make_late(*arguments: Any) -> list[RequestState]:
            has_tokens.set()
            await may_go_on.wait()
            return await make(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(models.a.llm._new_requests, "make", make_late)
            asked = asyncio.create_task(models.a.ask())
            await has_tokens.wait()
        models.fleet.load(models.a.model)
        await until(lambda: models.a.model.status == "loaded")
        may_go_on.set()
        with pytest.raises(UnavailableError, match="have changed while the request waited"):
            await asked
        assert models.a.client.added == []
        assert await models.a.ask() == "hello world"

    play(scene)
