"""What is refused, or ended, for lack of room or of time: its status, its words, and that the others notice nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import msgspec
import openai
import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from yeoul.errors import (
    DeadlineMissedError,
    GivenUpError,
    ProcessDeadError,
    RequestFailedError,
    TooManyRequestsError,
    UnavailableError,
)
from yeoul.web_process.http.error_responses import ErrorResponse


def test_a_full_queue_is_a_429_with_retry_after():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        waiting = [asyncio.create_task(server.complete()) for _ in range(8)]
        await until(lambda: server.engine.llm.num_unfinished == 8)
        answer = await server.complete()
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "overloaded_error"
        server.client.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
        metrics = (await server.http.get("/metrics")).text
        assert 'yeoul:request_refused_total{reason="full"} 1.0' in metrics

    serve(scene)


def test_a_full_queue_does_not_make_the_server_look_dead():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        waiting = [asyncio.create_task(server.complete()) for _ in range(8)]
        await until(lambda: server.engine.llm.num_unfinished == 8)
        probes = [asyncio.create_task(server.http.get("/health/generate")) for _ in range(3)]
        await until(lambda: server.engine.llm.num_unfinished == 9)
        assert (await server.complete()).status_code == 429
        server.client.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*waiting, *probes)} == {200}
        assert len(server.client.added) == 9  # the three shared one
        assert (await server.http.get("/health/generate")).status_code == 200

    serve(scene)


FINAL = (RequestFailedError("x"), GivenUpError("Worker_0", "died"), DeadlineMissedError("x"), RuntimeError("x"))
PASSING = (TooManyRequestsError("x"), UnavailableError("x"), ProcessDeadError("Worker_0", "died"))


@pytest.mark.parametrize("error", [*FINAL, *PASSING], ids=lambda error: type(error).__name__)
def test_clients_are_told_not_to_repeat_what_would_only_do_the_same_again(error):
    """OpenAI's libraries send 408, 409, 429 and 5xx again, twice, unless a header forbids it."""
    made = ErrorResponse(error)
    answer: Any = httpx.Response(made.status_code, headers=dict(made.headers))
    with openai.OpenAI(api_key="-", base_url="http://x/v1") as client:
        assert client._should_retry(answer) == (error in PASSING)
    assert made.headers.get("retry-after-ms", "1000") == "1000"
    assert (
        ("retry-after" in made.headers)
        == ("retry-after-ms" in made.headers)
        == isinstance(error, TooManyRequestsError | UnavailableError)
    )


def test_an_answer_that_is_not_complete_in_the_clients_own_time_is_a_408_and_the_engine_forgets_it():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        answer = await server.complete(deadline_seconds=0.05)
        assert answer.status_code == 408
        assert "retry-after" not in answer.headers
        assert answer.headers["x-should-retry"] == "false"
        assert answer.json()["error"]["type"] == "timeout_error"
        assert "0.05 s" in answer.json()["error"]["message"]
        vectors = await server.http.post("/v1/embeddings", json={"input": ["a", "b"], "deadline_seconds": 0.05})
        assert vectors.status_code == 408
        assert server.client.aborted == [add.request_id for add in server.client.added]
        assert server.engine.llm.num_unfinished == 0
        server.client.gate.set()
        assert (await server.complete()).json()["choices"][0]["text"] == "hello world"

    serve(scene)


def test_a_stream_that_is_not_complete_in_time_ends_with_the_error():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        answer = await server.complete(stream=True, deadline_seconds=0.3)  # a keep-alive has been sent by then
        *_, error, done = [line for line in answer.text.splitlines() if line]
        assert answer.status_code == 200
        assert json.loads(error.removeprefix("data: "))["error"]["type"] == "timeout_error"
        assert done == "data: [DONE]"

    serve(scene)


def test_the_servers_own_deadline_holds_for_who_asks_for_more():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        assert (await server.complete(deadline_seconds=60)).status_code == 504
        assert (await server.complete()).status_code == 504

    chosen = settings()
    serve(scene, msgspec.structs.replace(chosen, time=msgspec.structs.replace(chosen.time, request_deadline_seconds=0.05)))


def test_a_flood_with_one_key_leaves_room_in_the_queue_for_another():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()

        async def complete(key: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            answer = await server.http.post("/v1/completions", json={"prompt": "hi"}, headers=headers)
            return answer.status_code

        flood = [asyncio.create_task(complete("first")) for _ in range(6)]
        await until(lambda: server.engine.llm.num_unfinished == 6)
        assert await complete("first") == 429
        other = asyncio.create_task(complete("second"))
        await until(lambda: server.engine.llm.num_unfinished == 7)
        tenants = {add.tenant for add in server.client.added}
        assert len(tenants) == 2
        assert "" not in tenants
        server.client.gate.set()
        assert set(await asyncio.gather(*flood, other)) == {200}

    serve(scene, settings(api_key=["first", "second"]))
