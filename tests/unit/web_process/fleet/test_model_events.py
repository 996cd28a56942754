"""Whoever watches is told what becomes of the models, in llama.cpp's words, and holds nobody up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.unit.web_process.fake_engine_client import LIMIT_SECONDS, until
from tests.unit.web_process.fleet.fake_fleet import Fleet, let_it_turn, play
from tests.unit.web_process.fleet.test_fetches import Fetches, fleet_of
from yeoul.errors import ModelFileError, ProcessDeadError, UnavailableError
from yeoul.web_process.fleet import model_events, model_fetches
from yeoul.web_process.fleet.model_events import ModelEvent, ModelEvents


class Watcher:
    """``told`` are the events, with what is shown of each."""

    def __init__(self, events: ModelEvents) -> None:
        self.told: list[ModelEvent] = []
        self._task = asyncio.create_task(self._read(events.watch(0)))

    async def _read(self, events: AsyncIterator[ModelEvent | None]) -> None:
        async with contextlib.aclosing(events) as all_events:  # type: ignore[type-var]
            async for event in all_events:
                if event is not None:
                    self.told.append(event)

    def statuses(self, model: str) -> list[str]:
        of_model = [one.data for one in self.told if (one.model, one.event) == (model, "model_status")]
        return [str(data["status"]) for data in of_model if isinstance(data, dict)]

    async def wait_for_end(self) -> None:
        await asyncio.wait_for(self._task, LIMIT_SECONDS)


def test_who_watches_hears_of_each_load_its_failure_and_that_the_server_stops():
    async def scene(models: Fleet) -> None:
        watcher = Watcher(models.fleet.events)
        await let_it_turn()
        await models.a.ask()
        models.fleet.unload(models.a.model)
        await until(lambda: models.a.model.status == "unloaded")
        models.b.errors.append(ProcessDeadError("Worker_0", "was killed by signal 9 (SIGKILL)"))
        with pytest.raises(UnavailableError):
            await models.b.ask()
        models.fleet.announce_drain()
        await watcher.wait_for_end()
        assert watcher.statuses("a") == ["loading", "loaded", "unloading", "unloaded"]
        assert watcher.statuses("b") == ["loading", "unloaded"]
        assert isinstance(watcher.told[-1].data, dict)
        assert "signal 9" in str(watcher.told[-1].data["error"])
        assert [event async for event in models.fleet.events.watch(0)] == [None]  # who comes later is not kept either

    play(scene)


def test_a_pause_is_told_and_who_does_not_read_is_told_no_more(monkeypatch):
    monkeypatch.setattr(model_events, "_MAX_NUM_UNREAD", 2)
    monkeypatch.setattr(model_events, "MAX_NUM_WATCHERS", 1)

    async def scene() -> None:
        events = ModelEvents()
        reading = events.watch(0.001)
        assert await anext(reading) is None
        assert await anext(reading) is None
        with pytest.raises(UnavailableError, match="watch the models already"):
            events.watch(0)
        for _ in range(5):
            events.say("a", "download_finished")
        assert [event async for event in reading if event is not None] == [ModelEvent("a", "download_finished")] * 2
        events.watch(0)

    asyncio.run(scene())


def test_a_download_is_told_as_it_goes_on_and_ends_by_order(monkeypatch):
    monkeypatch.setattr(model_fetches, "_SECONDS_BETWEEN_EVENTS", 0.001)
    fetches = Fetches()

    async def scene() -> None:
        fleet = fleet_of(fetches, 2)
        await fleet.start()
        first, second = fleet.models
        watcher = Watcher(fleet.events)
        await let_it_turn()
        fleet.load(first)
        await until(lambda: len(fetches.names) == 1)
        first.note_progress("fetching a", 1, 10)
        await until(lambda: any(one.event == "download_progress" for one in watcher.told))
        waiting = asyncio.create_task(first.wait_until_loaded())
        await let_it_turn()
        fleet.unload(first)
        with pytest.raises(UnavailableError, match="has ended that") as ended:
            first.note_progress("fetching a", 2, 10)
        fetches.error = ended.value
        fetches.may_end.set()
        with pytest.raises(UnavailableError, match="has ended that"):
            await asyncio.wait_for(waiting, LIMIT_SECONDS)
        await until(lambda: first.status == "unloaded")
        assert first.failure is None
        assert not first.waits
        first.note_progress("fetching a", 3, 10)
        fetches.error = ModelFileError("there is no such model")
        fleet.load(second)
        await until(lambda: second.failure is not None and second.status == "unloaded")
        await fleet.shutdown()
        await watcher.wait_for_end()
        told = [(one.model, one.event, one.data) for one in watcher.told if one.event != "model_status"]
        assert told[0] == ("model 0", "download_progress", {"fetching a": {"done": 1, "total": 10}})
        assert [(name, event) for name, event, _ in told[1:]] == [
            ("model 0", "download_failed"),
            ("model 1", "download_failed"),
        ]
        assert watcher.statuses("model 0") == ["downloading", "unloaded"]

    asyncio.run(scene())
