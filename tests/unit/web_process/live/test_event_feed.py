"""``/debug/events``: what watchers are told, how many there may be, and when their streams end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.unit.web_process.fake_engine_client import FakeEngine, settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from yeoul.messages.outputs import WorkerInfo, WorkersLost, WorkersReplaced
from yeoul.web_process.app import build_routes
from yeoul.web_process.fleet.model_fleet import ModelFleet
from yeoul.web_process.live.page import event_feed
from yeoul.web_process.live.page.event_feed import MAX_NUM_WATCHERS
from yeoul.web_process.live.topology import topology_watch
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.tables import TABLES

PATH = "/debug/events"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "_SECONDS_BETWEEN_EVENTS", 0.02)


async def events_of(answer: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    name = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


async def wait_for(events: AsyncIterator[tuple[str, Any]], name: str) -> Any:
    async for came, data in events:
        if came == name:
            return data
    raise AssertionError(f"the stream ended without {name}")


@contextlib.asynccontextmanager
async def watching(server: FakeServer, key: str = "") -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with server.http.stream("GET", PATH, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events_of(answer)


def test_a_watcher_sees_the_hierarchy_at_once_and_the_numbers_of_each_second():
    async def scene(server: FakeServer) -> None:
        async with watching(server) as events:
            name, topology = await anext(events)
            assert name == "topology"
            assert topology["processes"][0]["name"] == "Web"
            assert (await server.complete()).status_code == 200
            first_tokens: list[float] = []
            while not first_tokens:
                points = (await wait_for(events, "numbers"))["points"]
                first_tokens = [point["ttft_p50"] for point in points if point["ttft_p50"] is not None]

    serve(scene)


def test_what_happens_to_a_process_is_told_at_once_and_the_picture_with_it():
    async def scene(server: FakeServer) -> None:
        async with watching(server) as events:
            await anext(events)
            server.client.emit(WorkersLost("Worker_0", "was killed by signal 9 (SIGKILL)", -9))
            incident = await wait_for(events, "incident")
            assert (incident["process"], incident["kind"]) == ("Worker_0", "death")
            topology = await wait_for(events, "topology")
            assert topology["incidents"][-1] == incident
            assert topology["is_ready"] is False
            server.client.emit(WorkersReplaced([WorkerInfo(0, 3, "cpu")], 1.5))
            assert (await wait_for(events, "incident"))["kind"] in ("restart", "recovery")

    serve(scene)


def test_a_death_and_the_picture_of_it_do_not_wait_for_the_next_second(monkeypatch: pytest.MonkeyPatch):
    """Not by a clock: the next event that is due by itself is an hour away, and no look is old enough to be made anew."""
    monkeypatch.setattr(event_feed, "_SECONDS_BETWEEN_EVENTS", 3600.0)
    monkeypatch.setattr(topology_watch, "_FRESH_SECONDS", 3600.0)

    async def scene(server: FakeServer) -> None:
        async with watching(server) as events:
            assert (await wait_for(events, "topology"))["is_ready"]
            server.client.emit(WorkersLost("Worker_0", "was killed by signal 9 (SIGKILL)", -9))
            assert (await wait_for(events, "incident"))["kind"] == "death"
            topology = await wait_for(events, "topology")
            assert [one["kind"] for one in topology["incidents"]] == ["death"]
            server.client.emit(WorkersReplaced([WorkerInfo(0, 3, "cpu")], 1.5))
            await wait_for(events, "incident")
            assert (await wait_for(events, "topology"))["is_ready"]

    serve(scene)


def test_only_some_may_watch_and_who_leaves_makes_room():
    async def scene(server: FakeServer) -> None:
        async with contextlib.AsyncExitStack() as watchers:
            streams = [await watchers.enter_async_context(watching(server)) for _ in range(MAX_NUM_WATCHERS)]
            for events in streams:
                await anext(events)
            refused = await server.http.get(PATH)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert "watch already" in refused.json()["error"]["message"]
        answers: list[int] = []
        while 200 not in answers:
            async with server.http.stream("GET", PATH) as answer:
                answers.append(answer.status_code)

    serve(scene)


def test_the_stream_of_a_server_that_stops_ends():
    async def scene(server: FakeServer) -> None:
        async with watching(server) as events:
            await anext(events)
            await server.engine.llm.drain()
            assert server.engine.llm.state == "draining"
            async for _ in events:
                pass

    serve(scene)


def test_while_the_last_answers_are_made_there_is_something_to_see():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        running = asyncio.create_task(server.complete())
        await until(lambda: bool(server.client.added))
        draining = asyncio.create_task(server.engine.llm.drain())
        async with watching(server) as events:
            topology = await wait_for(events, "topology")
            assert topology["processes"][0]["state"] == "draining"
            server.client.gate.set()
            async for _ in events:
                pass
        assert (await running).status_code == 200
        await draining

    serve(scene)


def test_before_the_engine_is_there_it_is_seen_to_start():
    async def scene(server: FakeServer) -> None:
        async with watching(server) as events:
            topology = await wait_for(events, "topology")
            assert topology["is_ready"] is False
            assert topology["processes"][0]["state"] == "starting"

    serve(scene, starts_engine=False)


def test_a_key_is_needed_where_there_are_keys():
    async def with_key(server: FakeServer) -> None:
        assert (await server.http.get(PATH)).status_code == 401

    serve(with_key, settings(api_key=["first"]))


def test_without_the_page_there_is_no_feed():
    chosen = settings(page=False)
    llm = FakeEngine(chosen).llm
    llm.resolve()
    with contextlib.closing(Database(None, TABLES)) as database:
        assert PATH not in build_routes(ServerContext(ModelFleet.of_one(llm), chosen, database)).paths
