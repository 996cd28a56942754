"""The stream that the page is fed with tells of all web processes, whichever of them serves it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from tests.unit.web_process.fake_server import FakeServer
from tests.unit.web_process.together.test_together import waiting
from tests.unit.web_process.together.two_servers import of, serve_two
from yeoul.web_process.live.page.number_history import NumberPoint
from yeoul.web_process.together.events import join_points


async def events(server: FakeServer) -> AsyncIterator[tuple[str, Any]]:
    async with server.http.stream("GET", "/debug/events") as answer:
        assert answer.status_code == 200
        name = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


async def next_of(stream: AsyncIterator[tuple[str, Any]], wanted: str) -> Any:
    async for name, data in stream:
        if name == wanted:
            return data
    raise AssertionError(f"no {wanted} came")


def test_a_watcher_sees_the_requests_of_another_process_come_and_end():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        await other.complete(max_tokens=2)
        stream = events(one)
        whole = await next_of(stream, "requests")
        assert whole["is_whole"]
        assert [entry["state"] for entry in whole["data"]] == ["finished"]
        task = await waiting(other, "new")
        came = await next_of(stream, "requests")
        assert [(entry["id"][:4], entry["state"]) for entry in came["data"]] in ([("new~", "waiting")], [("new~", "running")])
        other.client.gate.set()
        await task
        states = set()
        while "finished" not in states:
            states = {entry["state"] for entry in (await next_of(stream, "requests"))["data"]}
        await stream.aclose()  # type: ignore[attr-defined]

    serve_two(scene)


def test_a_watcher_sees_all_web_processes_and_one_that_is_gone_takes_its_requests_along():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        task = await waiting(other, "left")
        stream = events(one)
        topology = await next_of(stream, "topology")
        assert {"Web_0", "Web_1"} <= {process["name"] for process in topology["processes"]}
        (entry,) = (await next_of(stream, "requests"))["data"]
        del of(one).others[1]
        assert (await next_of(stream, "requests"))["gone"] == [entry["id"]]
        await stream.aclose()  # type: ignore[attr-defined]
        other.client.gate.set()
        await asyncio.gather(task)

    serve_two(scene)


def test_numbers_of_a_second_are_the_engines_once_and_times_those_of_all():
    own = [NumberPoint(at=1, num_output_tokens=5, ttft_p50=0.2, ttft_p99=0.3), NumberPoint(at=2, num_steps=3)]
    other = [NumberPoint(at=1, num_output_tokens=5, ttft_p50=0.4, ttft_p99=0.9), NumberPoint(at=2, gap_p50=0.1)]
    joined = join_points(own, [other, [NumberPoint(at=3)]])
    assert joined == [
        NumberPoint(at=1, num_output_tokens=5, ttft_p50=0.3, ttft_p99=0.9),
        NumberPoint(at=2, num_steps=3, gap_p50=0.1),
    ]
