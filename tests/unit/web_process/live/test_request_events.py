"""``requests`` events: all that is known first, then what has changed, whoever watches and however many wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from tests.unit.web_process.live.test_event_feed import quick, wait_for, watching
from yeoul.web_process.engine.request_observer import Observers
from yeoul.web_process.live.requests import request_follower
from yeoul.web_process.live.requests.request_log import RequestLog

assert quick  # a fixture


async def changes_until(events: Any, is_so: Any) -> dict[str, dict[str, Any]]:
    """What a watcher knows of requests, as soon as it is so."""
    known: dict[str, dict[str, Any]] = {}
    while True:
        told = await wait_for(events, "requests")
        if told["is_whole"]:
            known = {}
        known |= {one["id"]: one for one in told["data"]}
        for name in told["gone"]:
            known.pop(name)
        if is_so(known):
            return known


def states(known: dict[str, dict[str, Any]]) -> list[str]:
    return sorted(one["state"] for one in known.values())


def test_a_watcher_is_told_all_first_and_then_what_changes():
    async def scene(server: FakeServer) -> None:
        await server.complete()
        server.client.max_num_running = 1
        async with watching(server) as events:
            first = await wait_for(events, "requests")
            assert (first["is_whole"], first["older_than"], first["gone"]) == (True, None, [])
            assert [one["state"] for one in first["data"]] == ["finished"]
            server.client.gate.clear()
            answers = [asyncio.create_task(server.complete()) for _ in range(3)]
            known = await changes_until(events, lambda known: len(known) == 3)
            assert sorted(one["place"] for one in known.values()) == [1, 2, 3]
            server.client.gate.set()
            known = await changes_until(events, lambda known: states(known) == ["finished"] * 3)
            assert all(one["num_output_tokens"] for one in known.values())
            await asyncio.gather(*answers)

    serve(scene)


def test_while_nothing_happens_nothing_is_told_of_requests_that_wait():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        waiting = asyncio.create_task(server.complete())
        await until(lambda: bool(server.client.added))
        async with watching(server) as events:
            assert len((await wait_for(events, "requests"))["data"]) == 1
            names = [(await anext(events))[0] for _ in range(8)]
            assert "topology" in names
            assert "requests" not in names
            server.client.gate.set()
            await changes_until(events, lambda known: states(known) == ["finished"])
        await waiting

    serve(scene)


def test_of_many_that_wait_the_first_ones_are_followed_and_the_others_as_their_turn_comes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(request_follower, "MAX_NUM_FOLLOWED", 2)
    monkeypatch.setattr(request_follower, "_NUM_LAST", 1)

    async def scene(server: FakeServer) -> None:
        server.client.max_num_running = 1
        server.client.gate.clear()
        answers = [asyncio.create_task(server.complete()) for _ in range(6)]
        await until(lambda: len(server.client.added) == 6)
        async with watching(server) as events:
            first = await wait_for(events, "requests")
            assert sorted(one["place"] for one in first["data"]) == [1, 2]
            assert first["older_than"] is not None
            server.client.gate.set()
            await changes_until(events, lambda known: len(known) == 6 and set(states(known)) == {"finished"})
        await asyncio.gather(*answers)

    serve(scene)


def test_a_key_is_told_of_its_own_requests_and_the_first_one_of_all():
    async def scene(server: FakeServer) -> None:
        for key in ("first", "second", "third"):
            headers = {"authorization": f"Bearer {key}"}
            answer = await server.http.post("/v1/completions", json={"prompt": "hi"}, headers=headers)
            assert answer.status_code == 200
        for key, num_seen in (("first", 3), ("second", 1)):
            async with watching(server, key) as events:
                assert len((await wait_for(events, "requests"))["data"]) == num_seen

    serve(scene, settings(api_key=["first", "second", "third"]))


def test_nothing_is_kept_for_those_who_have_left():
    async def scene(server: FakeServer) -> None:
        async with watching(server) as events:
            await wait_for(events, "requests")
        observers = server.engine.llm.observer
        assert isinstance(observers, Observers)
        (log,) = [one for one in observers._all if isinstance(one, RequestLog)]
        await until(lambda: not log._followers)
        await server.complete()

    serve(scene)
