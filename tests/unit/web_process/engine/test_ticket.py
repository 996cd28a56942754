"""A request has its place, and its deadline runs, from when its body has come: while its text is tokenized as well."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import msgspec
import pytest

from tests.raw_http import request_bytes
from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from yeoul.config.settings import Settings
from yeoul.errors import DeadlineMissedError, InvalidRequestError, TooManyRequestsError
from yeoul.web_process.engine.request_observer import RequestObserver
from yeoul.web_process.engine.request_table import RequestTable
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.engine.ticket import Ticket
from yeoul.web_process.engine.waiting_room import WaitingRoom

LONG = "word " * 1000  # goes to the threads

ROUTES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": LONG},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": LONG}]},
    "/v1/embeddings": {"input": LONG},
    "/tokenize": {"prompt": LONG},
}


class Gate:
    """Holds the tokenizer of a server until it is opened."""

    def __init__(self, server: FakeServer) -> None:
        self._opened = threading.Event()
        self.num_waiting = 0
        tokenizer: Any = server.engine.llm.text.tokenizer
        encode = tokenizer.encode

        def held(*arguments: Any, **named: Any) -> list[int]:
            self.num_waiting += 1
            assert self._opened.wait(10)
            return list(encode(*arguments, **named))[:8]  # few enough for the fake model

        tokenizer.encode = held

    def open(self) -> None:
        self._opened.set()


def with_scheduler(**changes: Any) -> Settings:
    chosen = settings()
    return msgspec.structs.replace(chosen, scheduler=msgspec.structs.replace(chosen.scheduler, **changes))


def with_server(**changes: Any) -> Settings:
    chosen = settings()
    return msgspec.structs.replace(chosen, server=msgspec.structs.replace(chosen.server, **changes))


@pytest.mark.parametrize("path", ROUTES)
def test_who_is_tokenized_takes_room_and_gives_it_back(path):
    async def scene(server: FakeServer) -> None:
        gate = Gate(server)
        held = [asyncio.create_task(server.http.post(path, json=ROUTES[path])) for _ in range(3)]
        await until(lambda: gate.num_waiting == 2)  # as many as there are threads
        await until(lambda: server.engine.llm._requests.room._requests.num_all == 3)
        refused = await server.complete()
        assert refused.status_code == 429
        assert "3 requests wait and 3 may" in refused.json()["error"]["message"]
        gate.open()
        assert {answer.status_code for answer in await asyncio.gather(*held)} == {200}
        assert (await server.complete()).status_code == 200
        assert server.engine.llm._requests.room._requests.num_all == server.engine.llm._requests.room._tokens.num_all == 0

    serve(scene, with_scheduler(max_num_waiting_requests=3))


def test_the_bytes_of_a_body_count_as_tokens_until_those_are_counted():
    async def scene(server: FakeServer) -> None:
        gate = Gate(server)
        held = asyncio.create_task(server.chat(messages=[{"role": "user", "content": LONG}]))
        await until(lambda: gate.num_waiting == 1)
        assert "tokens wait" in (await server.complete(prompt="x" * 2000)).json()["error"]["message"]
        gate.open()
        assert (await held).status_code == 200

    serve(scene, with_scheduler(max_num_waiting_tokens=1400))


def test_a_full_queue_is_asked_before_a_template_is_rendered(monkeypatch):
    async def scene(server: FakeServer) -> None:
        gate = Gate(server)
        held = asyncio.create_task(server.complete(prompt=LONG))
        await until(lambda: gate.num_waiting == 1)
        rendered: list[object] = []
        monkeypatch.setattr(server.engine.llm.text, "render_chat", lambda *arguments, **named: rendered.append(arguments))
        assert (await server.chat()).status_code == 429
        assert rendered == []
        gate.open()
        assert (await held).status_code == 200

    serve(scene, with_scheduler(max_num_waiting_requests=1))


@pytest.mark.parametrize("path", [path for path in ROUTES if path.startswith("/v1")])
def test_a_deadline_runs_while_a_text_is_tokenized(path):
    async def scene(server: FakeServer) -> None:
        gate = Gate(server)
        answer = await server.http.post(path, json={**ROUTES[path], "deadline_seconds": 0.05})
        assert answer.status_code == 408
        assert server.client.added == []
        assert server.engine.llm._requests.room._requests.num_all == 0
        gate.open()

    serve(scene)


def test_the_time_to_the_first_token_counts_from_the_arrival():
    async def scene(server: FakeServer) -> None:
        gate = Gate(server)
        held = asyncio.create_task(server.complete(prompt=LONG))
        await until(lambda: gate.num_waiting == 1)
        arrival = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() - arrival > 0.1)
        gate.open()
        await held
        metrics = (await server.http.get("/metrics")).text
        (line,) = [line for line in metrics.splitlines() if line.startswith("yeoul:time_to_first_token_seconds_sum")]
        assert float(line.split()[1]) > 0.1

    serve(scene)


def test_bodies_are_bounded_together_and_give_their_room_back():
    async def scene(server: FakeServer) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = b'{"prompt": "' + b"x" * 1500 + b'"}'
        slow = request_bytes("POST", "/v1/completions", {"content-type": "application/json"}, body)
        bodies = server.context.bodies
        with contextlib.closing(writer):
            writer.write(slow[:-20])
            await until(lambda: bodies._num_bytes > 1000)
            refused = await server.complete(prompt="y" * 900)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert "--max-total-body-bytes" in refused.json()["error"]["message"]
        await until(lambda: bodies._num_bytes == 0)
        assert (await server.complete(prompt="y" * 100)).status_code == 200
        assert bodies._num_bytes == 0

    serve(scene, with_server(max_body_bytes=2048, max_total_body_bytes=2048))


def table() -> RequestTable:
    return RequestTable(WaitingRoom(4, 1000), RequestObserver())


def test_a_guess_never_refuses_for_good_what_the_count_may_let_in():
    requests = table()
    with Ticket(requests, ServiceTerms(), 2, 5000) as ticket:
        with pytest.raises(TooManyRequestsError):
            Ticket(requests, ServiceTerms(), 1, 10)
        ticket.admit(900, 10)
    with Ticket(requests, ServiceTerms(), 2, 10) as ticket, pytest.raises(InvalidRequestError, match="5000 tokens together"):
        ticket.admit(5000, 10)
    assert requests.room._requests.num_all == requests.room._tokens.num_all == 0


def test_an_error_while_one_waits_gives_the_place_back():
    requests = table()
    for _ in range(9):
        with pytest.raises(KeyError), Ticket(requests, ServiceTerms(), 4, 10):
            raise KeyError
    assert requests.room._requests.num_all == 0


def test_a_deadline_that_is_over_before_the_text_is_tokenized_is_missed():
    ticket = Ticket(table(), ServiceTerms(deadline_seconds=1.0, arrival=0.0), 1, 10)
    with pytest.raises(DeadlineMissedError, match="after 1 s"):
        ticket.seconds_left()
