"""``/debug/requests`` over a fake engine."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until


async def listed(server: FakeServer, **query: str | int) -> list[dict[str, Any]]:
    answer = await server.http.get("/debug/requests", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def test_a_request_that_has_ended_is_listed_with_what_it_took():
    async def scene(server: FakeServer) -> None:
        answer = await server.complete(max_tokens=5)
        (one,) = await listed(server)
        assert one["id"].startswith(answer.headers["x-request-id"] + "~")
        assert (one["route"], one["model"], one["state"]) == ("/v1/completions", "fake", "finished")
        assert (one["num_prompt_tokens"], one["num_output_tokens"], one["finish_reason"]) == (3, 5, "length")
        assert 0 <= one["ttft_seconds"] <= one["seconds"]
        assert one["place"] is one["why_it_waits"] is None

    serve(scene)


def test_who_waits_is_told_its_place_and_why():
    async def scene(server: FakeServer) -> None:
        server.client.max_num_running = 1
        server.client.gate.clear()
        answers = [asyncio.create_task(server.complete()) for _ in range(3)]
        await until(lambda: len(server.client.added) == 3)
        assert [(one["state"], one["place"]) for one in await listed(server)] == [("waiting", place) for place in (3, 2, 1)]
        assert (await listed(server))[0]["why_it_waits"].endswith("2 requests are ahead of it")
        server.client.gate.set()
        await asyncio.gather(*answers)
        assert [one["state"] for one in await listed(server)] == ["finished"] * 3

    serve(scene)


def test_who_leaves_has_aborted_and_what_failed_says_so():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        leaving = asyncio.create_task(server.complete())
        await until(lambda: len(server.client.added) == 1)
        leaving.cancel()
        await until(lambda: not server.engine.llm.num_unfinished)
        assert (await server.complete(deadline_seconds=0.05)).status_code == 408
        states = [(one["state"], one["finish_reason"]) for one in await listed(server)]
        assert states == [("failed", "error"), ("aborted", "abort")]

    serve(scene)


def test_pages_follow_each_other_and_states_are_told_apart():
    async def scene(server: FakeServer) -> None:
        for _ in range(5):
            await server.complete()
        everything = [one["id"] for one in await listed(server)]
        first = await listed(server, limit=2)
        rest = await listed(server, before=first[-1]["id"], state="finished")
        assert [one["id"] for one in [*first, *rest]] == everything
        assert await listed(server, state="waiting") == []
        assert (await server.http.get("/debug/requests?state=gone")).status_code == 400
        assert (await server.http.get("/debug/requests?limit=0")).status_code == 400

    serve(scene)


def test_a_key_sees_its_own_and_the_first_one_all():
    async def scene(server: FakeServer) -> None:
        for key in ("first", "second"):
            headers = {"authorization": f"Bearer {key}"}
            await server.http.post("/v1/completions", json={"prompt": "hi"}, headers=headers)
        nums = []
        for key in ("first", "second", "wrong"):
            answer = await server.http.get("/debug/requests", headers={"authorization": f"Bearer {key}"})
            nums.append(len(answer.json().get("data", [])))
        assert nums == [2, 1, 0]
        assert answer.status_code == 401

    serve(scene, settings(api_key=["first", "second"]))
