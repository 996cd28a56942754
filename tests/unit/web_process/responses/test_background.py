"""Responses in the background, over a fake engine: what is kept, what the next server takes up, what ends them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from sqlite3 import SQLITE_INSERT
from typing import Any, cast

import msgspec

from tests.unit.web_process.fake_engine_client import LIMIT_SECONDS, settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from yeoul.config.settings import Settings, StoreSettings
from yeoul.errors import UnavailableError
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.responses import background
from yeoul.web_process.responses.background import BackgroundResponses
from yeoul.web_process.responses.new_responses import start_response

WORDS = b"one two three four five six"


class Halting(list[int]):
    """An answer behind whose first tokens the engine waits."""

    def __init__(self, server: FakeServer, num_tokens: int) -> None:
        super().__init__(WORDS)
        self._server = server
        self._num_tokens = num_tokens

    def __getitem__(self, part: Any) -> Any:
        if isinstance(part, slice) and part.start == self._num_tokens:
            self._server.client.gate.clear()
        return super().__getitem__(part)


def on_disk(folder: str) -> Settings:
    return msgspec.structs.replace(settings(), store=StoreSettings(data_dir=folder))


def lasting(server: FakeServer) -> BackgroundResponses:
    return cast("BackgroundResponses", server.context.lasting[0])


async def begin(server: FakeServer, **fields: Any) -> str:
    answer = await server.http.post("/v1/responses", json={"input": "hi", "background": True, **fields})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "queued"
    return str(answer.json()["id"])


async def events(server: FakeServer, response_id: str, query: str = "") -> bytes:
    return (await server.http.get(f"/v1/responses/{response_id}?stream=true{query}")).content


async def now(server: FakeServer, response_id: str) -> dict[str, Any]:
    answer = await server.http.get(f"/v1/responses/{response_id}")
    assert answer.status_code == 200, answer.text
    response: dict[str, Any] = answer.json()
    return response


def texts(payload: bytes) -> list[str]:
    data = [json.loads(line[6:]) for line in payload.decode().splitlines() if line.startswith("data: ")]
    assert [event["sequence_number"] for event in data] == list(
        range(data[0]["sequence_number"], data[-1]["sequence_number"] + 1)
    )
    return [event["delta"] for event in data if event["type"] == "response.output_text.delta"]


def play(folder: str, *scenes: Callable[[FakeServer], Awaitable[None]]) -> None:
    """Each scene with a server of its own, one after the other."""

    async def run() -> None:
        for scene in scenes:
            async with FakeServer(on_disk(folder)) as server:
                server.client.reply = lambda add: [*WORDS]
                await asyncio.wait_for(scene(server), LIMIT_SECONDS)

    asyncio.run(run())


def test_a_token_is_an_event_however_late_they_are_read():
    async def scene(server: FakeServer) -> None:
        server.client.reply = lambda add: [*WORDS]
        response_id = await begin(server)
        payload = await events(server, response_id)
        assert texts(payload) == [chr(token) for token in WORDS]
        assert await events(server, response_id) == payload
        assert (
            await events(server, response_id, "&starting_after=7")
            == payload[payload.index(b"event: ", payload.index(b'er":7}')) :]
        )
        assert (await now(server, response_id))["output"][0]["content"][0]["text"] == WORDS.decode()

    serve(scene)


def test_the_next_server_goes_on_behind_the_tokens_that_were_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(background, "_SECONDS_BETWEEN_NOTES", 0.0)
    ids: list[str] = []
    seeds: list[int | None] = []

    async def first(server: FakeServer) -> None:
        server.client.reply = lambda add: Halting(server, 20)
        ids.append(await begin(server, top_logprobs=1))
        seeds.append(server.client.added[0].sampling.seed)
        run = lasting(server).find("", ids[0])
        assert run is not None
        await until(lambda: run.started is not None and run.started.answer.counts.num_output_tokens >= 20)
        assert (await now(server, ids[0]))["status"] == "in_progress"
        await lasting(server).suspend()
        refused = await server.http.post("/v1/responses", json={"input": "hi", "background": True})
        assert refused.status_code == 503

    async def second(server: FakeServer) -> None:
        answer = await server.http.get(f"/v1/responses/{ids[0]}")
        assert answer.status_code == 503
        assert "about to go on" in answer.json()["error"]["message"]
        await lasting(server).resume()
        payload = await events(server, ids[0])
        (add,) = server.client.added
        assert add.sampling.seed == seeds[0]
        assert add.output_token_ids == [*WORDS[: len(add.output_token_ids)]]
        assert len(add.output_token_ids) >= 19, "what was kept is not made once more"
        assert texts(payload) == [chr(token) for token in WORDS]
        response = await now(server, ids[0])
        assert response["usage"]["output_tokens"] == len(WORDS)
        assert response["usage"]["input_tokens_details"]["cached_tokens"] == 16
        assert len(response["output"][0]["content"][0]["logprobs"]) == len(WORDS)

    play(str(tmp_path), first, second)


def suspended() -> tuple[Callable[[FakeServer], Awaitable[None]], list[str]]:
    """A server that is stopped within a response, and the list that has the response's id then."""
    ids: list[str] = []

    async def first(server: FakeServer) -> None:
        server.client.gate.clear()
        ids.append(await begin(server))
        await lasting(server).suspend()

    return first, ids


def test_what_cannot_go_on_fails(tmp_path):
    first, ids = suspended()

    async def with_another_model(server: FakeServer) -> None:
        ready = server.engine.llm.ready
        assert ready is not None
        server.client.ready = msgspec.structs.replace(ready, model_fingerprint="fp_other")
        await lasting(server).resume()
        payload = await events(server, ids[0])
        assert b"event: response.failed" in payload
        response = await now(server, ids[0])
        assert response["status"] == "failed"
        assert "another model" in response["error"]["message"]

    play(str(tmp_path), first, with_another_model)


def test_one_that_ends_each_server_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(background, "_MAX_NUM_STARTS", 2)
    first, ids = suspended()

    async def next_one(server: FakeServer) -> None:
        server.client.gate.clear()
        await lasting(server).resume()
        await until(lambda: bool(server.client.added))
        await lasting(server).suspend()

    async def last(server: FakeServer) -> None:
        await lasting(server).resume()
        await events(server, ids[0])
        assert "each time the server ended" in (await now(server, ids[0]))["error"]["message"]
        assert server.client.added == []

    play(str(tmp_path), first, next_one, next_one, last)


def test_one_that_waits_for_room_is_taken_up_when_there_is_some(tmp_path):
    first, ids = suspended()

    async def second(server: FakeServer) -> None:
        server.engine.llm._requests.is_closed = True
        await lasting(server).resume()
        run = lasting(server).find("", ids[0])
        assert run is not None
        cancelled = await server.http.post(f"/v1/responses/{ids[0]}/cancel")
        assert cancelled.json()["status"] == "cancelled"
        assert server.client.added == []

    play(str(tmp_path), first, second)


def test_one_whose_model_is_not_there_yet_goes_on_when_it_is(tmp_path, monkeypatch):
    first, ids = suspended()

    async def second(server: FakeServer) -> None:
        fleet = server.context.fleet
        take, errors = fleet.take, [UnavailableError("it is being fetched", retry_after_seconds=0) for _ in range(3)]

        async def take_late(name: str | None) -> ServedName:
            if errors:
                raise errors.pop()
            return await take(name)

        with monkeypatch.context() as patch:
            patch.setattr(fleet, "take", take_late)
            await lasting(server).resume()
            await events(server, ids[0])
        assert (await now(server, ids[0]))["output"][0]["content"][0]["text"] == WORDS.decode()

    play(str(tmp_path), first, second)


def test_one_whose_model_no_request_loads_waits_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(background, "_MAX_NUM_STARTS", 1)
    first, ids = suspended()

    async def without_it(server: FakeServer) -> None:
        monkeypatch.setattr(server.context.fleet, "is_open", lambda model: False)
        await lasting(server).resume()
        assert (await now(server, ids[0]))["status"] == "queued"
        await lasting(server).suspend()

    async def with_it(server: FakeServer) -> None:
        await lasting(server).resume()
        await events(server, ids[0])
        assert (await now(server, ids[0]))["output"][0]["content"][0]["text"] == WORDS.decode()

    play(str(tmp_path), first, without_it, without_it, with_it)


def test_one_whose_model_cannot_be_loaded_fails(tmp_path, monkeypatch):
    first, ids = suspended()

    async def second(server: FakeServer) -> None:
        async def find_none(*_: object, **__: object) -> ServedName:
            error = UnavailableError("the model cannot be loaded")
            error.is_final = True
            raise error

        monkeypatch.setattr(server.context.fleet, "take", find_none)
        await lasting(server).resume()
        await events(server, ids[0])
        response = await now(server, ids[0])
        assert response["status"] == "failed"
        assert "cannot be loaded" in response["error"]["message"]

    play(str(tmp_path), first, second)


def test_one_that_is_cancelled_while_it_is_taken_up_ends(tmp_path, monkeypatch):
    first, ids = suspended()

    async def second(server: FakeServer) -> None:
        server.client.gate.clear()
        is_starting, is_cancelled = asyncio.Event(), asyncio.Event()

        async def start_late(*arguments: Any, **options: Any) -> Any:
            is_starting.set()
            await is_cancelled.wait()
            return await start_response(*arguments, **options)

        monkeypatch.setattr(background, "start_response", start_late)
        await lasting(server).resume()
        run = lasting(server).find("", ids[0])
        assert run is not None
        await is_starting.wait()
        cancelling = asyncio.create_task(server.http.post(f"/v1/responses/{ids[0]}/cancel"))
        await until(run.is_cancelled.is_set)
        is_cancelled.set()
        assert (await cancelling).json()["status"] == "cancelled"

    play(str(tmp_path), first, second)


def test_a_request_that_fails_in_the_engine_is_a_response_that_failed():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        response_id = await begin(server)
        run = lasting(server).find("", response_id)
        assert run is not None
        assert run.started is not None
        run.started.stream.fail(RuntimeError("nobody foresaw it"))
        payload = await events(server, response_id)
        assert payload.endswith(await events(server, response_id, "&starting_after=2"))
        response = await now(server, response_id)
        assert response["status"] == "failed"
        assert "its log tells more" in response["error"]["message"]

    serve(scene)


def test_a_full_queue_refuses_it_and_keeps_nothing():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        ids = [await begin(server) for _ in range(8)]
        refused = await server.http.post("/v1/responses", json={"input": "hi", "background": True})
        assert refused.status_code == 429
        server.client.gate.set()
        for response_id in ids:
            await events(server, response_id)

    serve(scene)


def test_deleting_one_that_runs_ends_it():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        response_id = await begin(server)
        answer = await server.http.delete(f"/v1/responses/{response_id}")
        assert answer.json() == {"id": response_id, "object": "response", "deleted": True}
        assert server.client.aborted
        assert (await server.http.get(f"/v1/responses/{response_id}")).status_code == 404

    serve(scene)


def test_an_answer_that_cannot_be_kept_is_none():
    """A client that was told of it would come back for it."""

    async def scene(server: FakeServer) -> None:
        await server.context.database.run(
            lambda database: database.set_authorizer(lambda action, *_: int(action == SQLITE_INSERT))
        )
        answer = await server.http.post("/v1/responses", json={"input": "hi"})
        assert answer.status_code == 503
        streamed = await server.http.post("/v1/responses", json={"input": "hi", "stream": True})
        assert b"event: response.failed" in streamed.content
        assert b"event: response.completed" not in streamed.content
        assert texts(streamed.content) == list("hello world")
        assert (await server.http.post("/v1/responses", json={"input": "hi", "store": False})).status_code == 200

    serve(scene)
