"""Responses that run in the background are found, read and ended from any of several web processes, and outlive theirs."""

from __future__ import annotations

import asyncio
import os
import tempfile

from tests.unit.web_process.fake_server import FakeServer, until
from tests.unit.web_process.responses.test_background import Halting, begin, lasting, now
from tests.unit.web_process.together.two_servers import of, serve_two, siblings


def test_a_response_is_what_the_next_one_follows_whichever_process_made_it():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        first = await one.openai.responses.create(model="fake", input="hi")
        second = await other.openai.responses.create(model="fake", input="and", previous_response_id=first.id)
        assert "hello world" in other.prompt
        assert (await one.openai.responses.retrieve(second.id)).output_text == "hello world"
        talk = await one.openai.conversations.create()
        await other.openai.responses.create(model="fake", input="hi", conversation=talk.id)
        items = await one.openai.conversations.items.list(talk.id)
        assert len(items.data) == 2

    serve_two(scene)


def test_a_response_in_the_background_is_seen_and_cancelled_from_another_process():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        one.client.reply = lambda add: Halting(one, 4)
        response_id = await begin(one)
        await until(lambda: not one.client.gate.is_set())
        assert (await now(other, response_id))["status"] in ("queued", "in_progress")
        ended = await other.http.post(f"/v1/responses/{response_id}/cancel")
        assert ended.status_code == 200, ended.text
        assert ended.json()["status"] == "cancelled"
        assert (await now(one, response_id))["status"] == "cancelled"

    serve_two(scene)


def test_its_events_are_read_from_any_place_in_another_process_while_it_runs_and_when_it_has_ended():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        one.client.reply = lambda add: Halting(one, 4)
        response_id = await begin(one)
        await until(lambda: not one.client.gate.is_set())
        got: list[bytes] = []

        async def read(first: str) -> bytes:
            address = f"/v1/responses/{response_id}?stream=true{first}"
            async with other.http.stream("GET", address) as answer:
                async for piece in answer.aiter_bytes():
                    got.append(piece)  # noqa: PERF401 - it is looked at meanwhile
            return b"".join(got)

        reading = asyncio.create_task(read("&starting_after=1"))
        await until(lambda: b"response.output_text.delta" in b"".join(got))
        one.client.gate.set()
        events = await reading
        whole = (await one.http.get(f"/v1/responses/{response_id}?stream=true")).content
        assert whole.endswith(events)
        assert b'"sequence_number":2' in events.partition(b"\n\n")[0]
        again = (await other.http.get(f"/v1/responses/{response_id}?stream=true&starting_after=1")).content
        assert again == events

    serve_two(scene)


def test_a_response_that_another_process_makes_is_not_taken_up_but_by_who_takes_its_place():
    async def play(folder: str) -> None:
        one, other = siblings(2, folder)
        async with FakeServer(siblings=one) as first:
            async with FakeServer(siblings=other) as second:
                second.client.reply = lambda add: Halting(second, 4)
                response_id = await begin(second)
                await until(lambda: not second.client.gate.is_set())
                await lasting(first).resume()
                assert lasting(first).find("", response_id) is None
                run = lasting(second).find("", response_id)
                assert run is not None
                assert run.task is not None
                lasting(second)._is_suspended = True  # as a kill leaves it: unfinished
                run.task.cancel()
                await asyncio.wait([run.task])
            del one.others[1]
            reading = asyncio.create_task(first.http.get(f"/v1/responses/{response_id}?stream=true"))
            other.start = 1
            async with FakeServer(siblings=other) as successor:
                await lasting(successor).resume()
                assert b"response.completed" in (await reading).content
                assert (await now(first, response_id))["status"] == "completed"
            assert of(first).index == 0

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(asyncio.wait_for(play(os.path.realpath(folder)), 20))


def test_who_deletes_a_response_that_another_process_makes_ends_it():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        one.client.reply = lambda add: Halting(one, 4)
        response_id = await begin(one)
        await until(lambda: not one.client.gate.is_set())
        assert (await other.http.delete(f"/v1/responses/{response_id}")).status_code == 200
        assert lasting(one).find("", response_id) is None
        assert (await one.http.get(f"/v1/responses/{response_id}")).status_code == 404

    serve_two(scene)
