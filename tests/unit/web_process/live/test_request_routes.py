"""``/debug/requests`` over a fake engine."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from yeoul.web_process.live.requests.ended_requests import EndedRequests


async def story(server: FakeServer, name: str) -> dict[str, Any]:
    answer = await server.http.get(f"/debug/requests/{name}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def listed(server: FakeServer, *, key: str = "", **query: str | int) -> list[dict[str, Any]]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answer = await server.http.get("/debug/requests", params=query, headers=headers)
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


def test_a_story_says_where_the_time_went_with_whom_and_how_to_send_it_again():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        headers = {"x-request-id": "mine"}
        body = {"prompt": "a secret", "max_tokens": 4, "temperature": 0.5, "stop": ["secret stop"]}
        mine = asyncio.create_task(server.http.post("/v1/completions", json=body, headers=headers))
        other = asyncio.create_task(server.chat(max_tokens=3))
        await until(lambda: len(server.client.added) == 2)
        waiting = await story(server, "mine")
        assert (waiting["state"], waiting["num_steps"]) == ("waiting", 0)
        assert "queued" in {cause["cause"] for cause in waiting["causes"]}
        server.client.gate.set()
        await asyncio.gather(mine, other)
        told = await story(server, "mine")
        assert told == await story(server, told["id"])
        assert sum(cause["seconds"] for cause in told["causes"]) == pytest.approx(told["seconds"], abs=1e-5)
        assert {"queued", "own_prefill", "own_decode"} <= {cause["cause"] for cause in told["causes"]}
        assert (told["num_steps"], told["num_output_tokens"]) == (4, 4)
        assert told["steps"][0]["num_tokens_own"] == 9
        assert [name.startswith("req_") for name in told["steps"][1]["shared_with"]] == [True]
        assert {moment["process"] for moment in told["timeline"]} == {"Web", "EngineCore", "Worker_0"}
        assert "secret" not in str(told)
        assert f'"seed": {server.client.added[0].sampling.seed}' in told["curl"]
        assert '"temperature": 0.5' in told["curl"]
        assert "client.completions.create(" in told["python"]

    serve(scene)


def test_what_was_sent_is_shown_only_where_the_operator_asks_for_it():
    async def scene(server: FakeServer) -> None:
        (ended,) = [work for work in server.context.lasting if isinstance(work, EndedRequests)]
        await ended.suspend()
        body = {"messages": [{"role": "user", "content": "a secret"}], "stop": ["x"], "temperature": 0.5}
        await server.http.post("/v1/chat/completions", json=body, headers={"x-request-id": "mine"})
        told = await story(server, "mine")
        seed = server.client.added[-1].sampling.seed
        if server.settings.server.show_prompts:
            assert json.loads(told["curl"].partition(" -d ")[2].strip("'")) == {"model": "fake", **body, "seed": seed}
            assert told["left_out"] == []
        else:
            assert "secret" not in str(told)
            assert told["left_out"] == ["stop"]
        await until(lambda: not ended.unwritten())
        assert await story(server, "mine") == told

    serve(scene)
    serve(scene, settings(show_prompts=True))


def test_without_a_log_the_list_is_empty():
    async def scene(server: FakeServer) -> None:
        await server.complete()
        assert await listed(server) == []

    serve(scene, settings(request_log=False))


def test_a_request_is_ended_by_its_id_and_who_asks_for_nothing_is_told_so():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        answer = asyncio.create_task(server.complete())
        await until(lambda: len(server.client.added) == 1)
        (one,) = await listed(server)
        aborted = await server.http.post(f"/debug/requests/{one['id']}/abort")
        assert aborted.json() == {"id": one["id"], "aborted": True}
        assert (await answer).json()["choices"][0]["finish_reason"] == "abort"
        again = await server.http.post(f"/debug/requests/{one['id']}/abort")
        assert again.json() == {"id": one["id"], "aborted": False}
        assert (await story(server, one["id"]))["state"] == "aborted"
        for path in ("/debug/requests/nothing", "/debug/requests/"):
            assert (await server.http.get(path)).status_code == 404
        assert (await server.http.post("/debug/requests/nothing/abort")).status_code == 404

    serve(scene)


def test_nobody_reads_or_ends_what_is_anothers():
    async def scene(server: FakeServer) -> None:
        first, second = ({"authorization": f"Bearer {key}"} for key in ("first", "second"))
        await server.http.post("/v1/completions", json={"prompt": "hi"}, headers=first)
        await server.http.post("/v1/completions", json={"prompt": "hi"}, headers=second)
        of_second, of_first = await listed(server, key="first")
        assert (await server.http.get(f"/debug/requests/{of_first['id']}", headers=second)).status_code == 404
        assert (await server.http.post(f"/debug/requests/{of_first['id']}/abort", headers=second)).status_code == 404
        for headers in (first, second):
            told = (await server.http.get(f"/debug/requests/{of_second['id']}", headers=headers)).json()
            assert "$YEOUL_API_KEY" in told["curl"]

    serve(scene, settings(api_key=["first", "second"]))


def test_a_death_is_told_where_it_happened():
    async def scene(server: FakeServer) -> None:
        server.client.may_be_replaced = True
        server.client.gate.clear()
        answer = asyncio.create_task(server.complete())
        await until(lambda: len(server.client.added) == 1)
        server.client.die()
        await until(lambda: server.client.num_replaced == 1)
        server.client.gate.set()
        assert (await answer).status_code == 200
        told = await story(server, (await listed(server))[0]["id"])
        assert "recovery" in {cause["cause"] for cause in told["causes"]}
        assert any("Worker_0 was killed by signal 9" in moment["what"] for moment in told["timeline"])

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
