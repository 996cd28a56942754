"""Ids of requests and their place in a trace: taken, made, given back, and to be found in the log and in errors."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import msgspec
import pytest

from tests.unit.web_process.fake_engine_client import settings, until
from tests.unit.web_process.fake_server import FakeServer, serve
from yeoul.errors import GivenUpError
from yeoul.messages.outputs import FinishReason
from yeoul.web_process.engine.request_observer import Requester, RequestObserver

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HI: Any = [{"role": "user", "content": "hi"}]


def test_every_answer_has_an_id_of_its_own_errors_too(lasting):
    async def scene(server: FakeServer) -> None:
        answers = [
            await server.complete(),
            await server.complete(n=0),
            await server.http.get("/health"),
            await server.http.get("/x"),
        ]
        ids = [answer.headers["x-request-id"] for answer in answers]
        assert all(re.fullmatch("req_[0-9a-f]{32}", one) for one in ids)
        assert len(set(ids)) == 4
        assert all(int(answer.headers["openai-processing-ms"]) >= 0 for answer in answers)

    lasting.play(scene)


def test_openais_client_knows_the_id(lasting):
    async def scene(server: FakeServer) -> None:
        answer = await server.openai.chat.completions.create(model="fake", messages=HI)
        assert str(answer._request_id).startswith("req_")
        mine = await server.openai.chat.completions.create(model="fake", messages=HI, extra_headers={"X-Request-Id": "mine"})
        assert mine._request_id == "mine"
        assert mine.id != answer.id
        assert server.client.added[-1].request_id.startswith("mine~")

    lasting.play(scene)


@pytest.mark.parametrize("streams", [False, True])
def test_an_id_in_the_body_goes_first_and_names_the_answer_as_in_vllm(lasting, streams):
    async def scene(server: FakeServer) -> None:
        fields = {"prompt": "hi", "request_id": "in-the-body", "stream": streams}
        answer = await server.http.post("/v1/completions", json=fields, headers={"x-request-id": "in-the-header"})
        assert answer.headers["x-request-id"] == "in-the-body"
        assert '"id":"cmpl-in-the-body"' in answer.text

    lasting.play(scene)


def test_anthropics_header_and_errors_have_the_same_id(lasting):
    async def scene(server: FakeServer) -> None:
        fields = {"model": "no-such", "max_tokens": 1, "messages": HI, "request_id": "in-the-body"}
        answer = await server.http.post("/v1/messages", json=fields)
        assert answer.status_code == 404
        assert answer.headers["request-id"] == answer.headers["x-request-id"] == "in-the-body"
        assert answer.json()["request_id"] == "in-the-body"

    lasting.play(scene)


NO_IDS = ["two words", "x" * 129, "ä", "a;b", ""]


@pytest.mark.parametrize("said", NO_IDS)
def test_what_should_not_stand_in_a_log_is_no_id(lasting, said):
    async def scene(server: FakeServer) -> None:
        answer = await server.http.post("/v1/completions", json={"prompt": "hi"}, headers={"x-request-id": said.encode()})
        assert answer.status_code == 200
        assert answer.headers["x-request-id"].startswith("req_")

    lasting.play(scene)


@pytest.mark.parametrize("said", [*NO_IDS, "a\n", "a\r\nset-cookie: b"])
def test_nor_is_it_one_in_a_body(lasting, said):
    async def scene(server: FakeServer) -> None:
        refused = await server.complete(request_id=said)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "request_id"
        assert refused.headers["x-request-id"].startswith("req_")

    lasting.play(scene)


def test_two_requests_may_have_the_same_id(lasting):
    async def scene(server: FakeServer) -> None:
        answers = [await server.complete(request_id="same"), await server.complete(request_id="same")]
        assert [answer.status_code for answer in answers] == [200, 200]
        first, second = (add.request_id for add in server.client.added)
        assert first != second

    lasting.play(scene)


class Watching(RequestObserver):
    def __init__(self) -> None:
        self.seen: list[Requester] = []

    def finished(self, who: Requester, reason: FinishReason, *numbers: float) -> None:
        self.seen.append(who)


def test_a_trace_comes_back_and_whoever_watches_knows_of_it():
    async def scene(server: FakeServer) -> None:
        server.engine.llm.observer = watching = Watching()
        answer = await server.http.post("/v1/chat/completions", json={"messages": HI}, headers={"traceparent": TRACE})
        assert answer.headers["traceparent"] == TRACE
        assert [who.traceparent for who in watching.seen] == [TRACE]

    serve(scene)


@pytest.mark.parametrize(
    "said", ["", "00-1-2-3", TRACE.upper(), "ff" + TRACE[2:], f"00-{'0' * 32}-b7ad6b7169203331-01", TRACE + "-x"]
)
def test_what_is_no_trace_is_passed_over(lasting, said):
    async def scene(server: FakeServer) -> None:
        answer = await server.http.get("/health", headers={"traceparent": said})
        assert answer.status_code == 200
        assert "traceparent" not in answer.headers

    lasting.play(scene)


def test_a_fault_of_the_server_names_its_request_in_the_error_and_in_the_log(monkeypatch, caplog):
    async def scene(server: FakeServer) -> None:
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("oh")

        monkeypatch.setattr(server.engine.llm, "submit", fail)
        headers = {"x-request-id": "find-me"}
        answer = await server.http.post("/v1/completions", json={"prompt": "hi"}, headers=headers)
        assert answer.status_code == 500
        assert answer.headers["x-request-id"] == "find-me"
        assert answer.json()["error"]["message"].endswith("(request find-me)")

        def die(*_: object, **__: object) -> None:
            raise GivenUpError("Worker_0", "died")

        monkeypatch.setattr(server.engine.llm, "submit", die)
        answer = await server.http.post("/v1/completions", json={"prompt": "hi"}, headers=headers)
        assert answer.json()["error"]["message"] == "Worker_0 died (request find-me)"

    with caplog.at_level(logging.ERROR):
        serve(scene)
    assert any("request find-me: POST /v1/completions failed" in record.getMessage() for record in caplog.records)


def test_each_request_is_a_line_of_a_log_that_wants_to_know(lasting, caplog):
    async def scene(server: FakeServer) -> None:
        await server.http.get("/health", headers={"x-request-id": "mine", "traceparent": TRACE})

    with caplog.at_level(logging.DEBUG, "yeoul.requests"):
        lasting.play(scene)
    (record,) = (record for record in caplog.records if record.name == "yeoul.requests")
    assert re.fullmatch(rf"GET /health 200, [\d.]+ ms, trace {TRACE}", record.getMessage())
    assert vars(record)["request_id"] == "mine"


def test_an_answer_tells_what_room_is_left_in_the_queue():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        waiting = [asyncio.create_task(server.complete()) for _ in range(3)]
        await until(lambda: server.engine.llm.num_unfinished == 3)
        refused = await server.complete(n=0)
        assert refused.headers["x-ratelimit-limit-requests"] == "8"
        assert refused.headers["x-ratelimit-remaining-requests"] == "5"
        limit, left = (int(refused.headers[f"x-ratelimit-{what}-tokens"]) for what in ("limit", "remaining"))
        assert limit - left == 3 * 3  # a BOS and two letters each
        server.client.gate.set()
        for one in waiting:
            assert (await one).status_code == 200

    serve(scene, settings())


def test_who_has_no_key_is_not_told_how_full_the_queue_is():
    async def scene(server: FakeServer) -> None:
        for key, is_told in (("known", True), ("unknown", False)):
            answer = await server.http.post("/v1/completions", json={}, headers={"authorization": f"Bearer {key}"})
            assert ("x-ratelimit-remaining-requests" in answer.headers) is is_told
            assert answer.headers["x-request-id"]

    chosen = settings()
    serve(scene, msgspec.structs.replace(chosen, server=msgspec.structs.replace(chosen.server, api_key=["known"])))
