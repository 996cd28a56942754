"""Who waits is told its place, as a comment where it reads comments, in a header where nothing is streamed."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import msgspec
import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from yeoul.config.settings import Settings
from yeoul.messages.statistics import EngineStatistics
from yeoul.web_process.engine.waiting_room import QueuePlace
from yeoul.web_process.http.event_comments import queue_comment, queue_words

EVENTS = {"accept": "text/event-stream"}
PATHS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "hi"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/messages": {"model": "fake", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]},
    "/v1/responses": {"input": "hi"},
}


def noticing(seconds: float = 0.01, **server: object) -> Settings:
    chosen = settings(**server)  # type: ignore[arg-type]
    return msgspec.structs.replace(chosen, time=msgspec.structs.replace(chosen.time, queue_notice_seconds=seconds))


async def fill(server: FakeServer, num: int, **headers: str) -> list[asyncio.Task[httpx.Response]]:
    """One that runs for ever, as it seems, and others that wait behind it, one after the other."""
    server.client.max_num_running = 1
    server.client.gate.clear()
    asking, num_before = [], len(server.client.added)
    for _ in range(num):
        body = {"prompt": "hi", "max_tokens": 4}
        asking.append(asyncio.create_task(server.http.post("/v1/completions", json=body, headers=headers)))
        await until(lambda: len(server.client.added) == num_before + len(asking))
    return asking


async def read_until(answer: httpx.Response, wanted: str) -> str:
    read = ""
    async for text in answer.aiter_text():
        read += text
        if wanted in read:
            return read
    raise AssertionError(f"{wanted!r} is not in {read!r}")


@pytest.mark.parametrize(("path", "body"), PATHS.items())
def test_a_stream_that_waits_is_told_its_place_and_what_it_is_then(path, body):
    async def scene(server: FakeServer) -> None:
        asking = await fill(server, 2)
        async with server.http.stream("POST", path, json={**body, "stream": True}, headers=EVENTS) as answer:
            pieces = answer.aiter_text()
            read = await anext(pieces)
            while ": queued" not in read:  # pings and empty events
                read += await anext(pieces)
            assert re.search(r"^: queued place=3\n\n", read, re.MULTILINE), read
            asking[1].cancel()
            while "place=2" not in read:
                read += await anext(pieces)
            server.client.gate.set()
            read += "".join([piece async for piece in pieces])
        await asking[0]
        places = re.findall(r"^: queued place=(\d)", read, re.MULTILINE)
        assert places == ["3", "2"], "a place is told when it has changed"
        assert ": server-timing " in read

    serve(scene, noticing())


GO_OPENAI = {"accept": "text/event-stream", "user-agent": "Go-http-client/1.1"}


@pytest.mark.parametrize("headers", [{}, {"accept": "application/json"}, {"accept": "*/*"}, GO_OPENAI], ids=str)
def test_who_may_read_lines_alone_gets_none(headers):
    async def scene(server: FakeServer) -> None:
        before = await fill(server, 1)
        body = {"prompt": "hi", "stream": True}
        asking = asyncio.create_task(server.http.post("/v1/completions", json=body, headers=headers))
        await until(lambda: len(server.client.added) == 2)
        async with server.http.stream("POST", "/v1/completions", json=body, headers=EVENTS) as other:
            await read_until(other, "place=3")  # by now the one before it would have had its own
            server.client.gate.set()
            assert all(line.startswith("data: ") for line in (await asking).text.splitlines() if line)
        await asyncio.gather(*before)

    serve(scene, noticing())


def test_ollamas_lines_have_none():
    async def scene(server: FakeServer) -> None:
        before = await fill(server, 1)
        body = {"model": "fake", "prompt": "hi"}
        asking = asyncio.create_task(server.http.post("/api/generate", json=body, headers=EVENTS))
        await until(lambda: len(server.client.added) == 2)
        async with server.http.stream(
            "POST", "/v1/completions", json={"prompt": "hi", "stream": True}, headers=EVENTS
        ) as other:
            await read_until(other, "place=3")
            server.client.gate.set()
            assert all(line.startswith("{") for line in (await asking).text.splitlines() if line.strip())
        await asyncio.gather(*before)

    serve(scene, noticing())


def test_an_answer_that_is_whole_has_its_place_at_arrival_in_a_header():
    async def scene(server: FakeServer) -> None:
        asking = await fill(server, 3)
        async with server.http.stream(
            "POST", "/v1/completions", json={"prompt": "hi", "stream": True}, headers=EVENTS
        ) as other:
            await read_until(other, "place=4")
        server.client.gate.set()
        answers = await asyncio.gather(*asking)
        assert [answer.headers["yeoul-queued"] for answer in answers] == ["place=1", "place=2", "place=3"]
        assert all("queued" in answer.headers["server-timing"] for answer in answers)
        assert "yeoul-queued" not in (await server.http.get("/health")).headers

    serve(scene, noticing())


@pytest.mark.parametrize(
    "chosen", [noticing(0.0), noticing(5.0), noticing(0.01, request_log=False)], ids=["never", "soon", "no log"]
)
def test_who_waits_for_a_moment_alone_is_told_nothing(chosen):
    async def scene(server: FakeServer) -> None:
        asking = await fill(server, 2)
        body = {"prompt": "hi", "stream": True}
        streaming = asyncio.create_task(server.http.post("/v1/completions", json=body, headers=EVENTS))
        await until(lambda: len(server.client.added) == 3)
        server.client.gate.set()
        assert ": queued" not in (await streaming).text
        assert all("yeoul-queued" not in answer.headers for answer in await asyncio.gather(*asking))

    serve(scene, chosen)


def test_of_several_keys_who_has_had_the_least_is_next():
    async def scene(server: FakeServer) -> None:
        crowd = await fill(server, 3, authorization="Bearer crowd")
        alone = await fill(server, 3, authorization="Bearer alone")
        tenants = list(dict.fromkeys(add.tenant for add in server.client.added))
        assert len(tenants) == 2

        async def places() -> list[tuple[str, int]]:
            answer = await server.http.get("/debug/requests", headers={"authorization": "Bearer crowd"})
            waiting = [one for one in answer.json()["data"] if one["state"] == "waiting"]
            return sorted((one["tenant"], one["place"]) for one in waiting)

        def had(*costs: int) -> list[int]:
            server.engine.llm._requests.engines[0].statistics = EngineStatistics(
                tenant_costs=dict(zip(tenants, costs, strict=True))
            )
            return []

        had(100, 0)
        assert [place for tenant, place in await places() if tenant == tenants[1]] == [1, 2, 3]
        had(2, 0)
        assert [place for tenant, place in await places() if tenant == tenants[1]] == [1, 3, 5]
        had(0, 100)
        assert [place for tenant, place in await places() if tenant == tenants[0]] == [1, 2, 3]
        server.client.gate.set()
        await asyncio.gather(*crowd, *alone)

    serve(scene, noticing(api_key=["crowd", "alone"]))


def test_a_place_without_an_expectation_says_none():
    assert queue_comment(QueuePlace(3, 4.2)) == b": queued place=3 expected_seconds=4.2\n\n"
    assert queue_words(QueuePlace(1, None)) == "place=1"
    assert queue_words(QueuePlace(2, 7.0), "; ") == "place=2; expected_seconds=7"
