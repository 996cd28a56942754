"""``--api-server-count``: a client cannot tell to which web process it came, and what they keep and count outlives each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.chaos.traffic import SLOW
from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.patience import until
from tests.running_server import RunningServer

NUM_CONNECTIONS = 8  # each goes to a process by chance: all to one in 1 of 128 runs, where a test shows less


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer("--api-server-count", "2", *SLOW) as running:
        yield running


@pytest.fixture
def clients(server) -> Iterator[list[openai.OpenAI]]:
    """Each on a connection of its own."""
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(connect(server)) for _ in range(NUM_CONNECTIONS)]


def connect(server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=5)


def everywhere(server: RunningServer, path: str) -> list[httpx.Response]:
    """What is answered there, on connections of their own."""
    return [httpx.get(server.url + path, timeout=10.0) for _ in range(NUM_CONNECTIONS)]


def counters(server: RunningServer) -> dict[str, float]:
    lines = httpx.get(f"{server.url}/metrics", timeout=10.0).text.splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    endings = ("_total", "_count", "_bucket", "_sum")
    return {
        name: float(value)
        for name, _, value in pairs
        if name.partition("{")[0].endswith(endings) and not name.startswith(("process_", "yeoul:process_cpu", "yeoul:link"))
    }


def test_what_one_keeps_all_have_and_what_one_counts_all_tell(server, clients):
    before = counters(server)
    last: Any = clients[0].responses.create(model="fake", input="hi", max_output_tokens=3)
    for client in clients:
        last = client.responses.create(model="fake", input="and", previous_response_id=last.id, max_output_tokens=3)
    assert {client.responses.retrieve(last.id).output_text for client in clients} == {last.output_text}
    name = 'yeoul:request_success_total{finished_reason="length"}'
    assert {counters(server)[name] - before[name] for _ in clients} == {NUM_CONNECTIONS + 1}
    lists = [[entry["id"] for entry in answer.json()["data"]] for answer in everywhere(server, "/debug/requests")]
    assert all(each == lists[0] for each in lists)
    assert len(lists[0]) >= NUM_CONNECTIONS + 1
    assert len({answer.text for answer in everywhere(server, "/v1/models")}) == 1
    for answer in everywhere(server, "/topology"):
        assert {"Web_0", "Web_1", "EngineCore", "Worker_0"} <= {process["name"] for process in answer.json()["processes"]}


def test_a_batch_of_any_is_run_and_read_at_all(server, clients):
    line = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "hi", "max_tokens": 3}}
    file = clients[0].files.create(file=("in.jsonl", json.dumps(line).encode()), purpose="batch")
    made = [
        client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
        for client in clients
    ]
    for client, batch in zip(clients, made, strict=True):
        assert until(lambda: client.batches.retrieve(batch.id).status == "completed", 20.0)  # noqa: B023
        output = client.batches.retrieve(batch.id).output_file_id
        assert output is not None
        assert len({one.files.content(output).content for one in clients}) == 1


def test_a_response_in_the_background_outlives_its_process_and_no_counter_goes_back(server, clients):
    made = [client.responses.create(model="fake", input="hi", background=True, max_output_tokens=100) for client in clients]
    before = counters(server)
    os.kill(server.by_title()["yeoul::Web_1"], signal.SIGKILL)

    def status(response_id: str) -> str | None:
        with contextlib.suppress(openai.APIConnectionError), connect(server) as client:
            return client.responses.retrieve(response_id).status
        return None

    assert until(lambda: all(status(one.id) == "incomplete" for one in made), 30.0)
    for _ in range(4):
        now = counters(server)
        assert {name: value for name, value in before.items() if now.get(name, -1.0) < value} == {}
    with connect(server) as client:
        assert all(client.responses.retrieve(one.id).output_text for one in made)
