"""Streams that wait behind a long one: what readers of event streams make of the comments that tell them so."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import threading
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.processes.test_stream_readers import EVENT_SOURCE
from tests.running_server import RunningServer

ACCEPT = {"accept": "text/event-stream"}
HI: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def server():
    """Each answer of it takes a quarter of a second, and is computed alone: who comes second waits long enough."""
    arguments = ("--max-num-seqs", "1", "--fake-step-seconds", "0.04", "--queue-notice-seconds", "0.05")
    with RunningServer(*arguments) as running:
        yield running


class Crowd:
    """Requests that are before others, for as long as the block lasts."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(2)]

    def _ask(self) -> None:
        body = {"prompt": "river", "max_tokens": 6, "ignore_eos": True}
        httpx.post(f"{self._server.url}/v1/completions", json=body, timeout=60)

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()
        with httpx.Client(base_url=self._server.url) as client:
            while client.get("/load").json()["server_load"] < 2:
                pass

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()


def read_raw(server: RunningServer, path: str, body: dict[str, Any]) -> str:
    with Crowd(server):
        return httpx.post(server.url + path, json={**body, "stream": True}, headers=ACCEPT, timeout=60).text


def test_the_comments_come_before_the_first_event_and_each_says_something_new(server):
    raw = read_raw(server, "/v1/completions", {"prompt": "lake", "max_tokens": 3})
    waiting, _, answer = raw.partition("data: ")
    told = re.findall(r"^: queued (place=\d+(?: expected_seconds=[\d.]+)?)$", waiting, re.MULTILINE)
    assert told, raw
    assert all(before != after for before, after in itertools.pairwise(told))
    assert ": queued" not in answer
    assert re.search(r"^: server-timing reading;dur=.*queued;dur=\d+", answer, re.MULTILINE)


def test_openais_client_reads_them(server):
    with Crowd(server), openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        events = client.chat.completions.create(
            model="fake", messages=HI, max_tokens=3, stream=True, extra_headers={"Accept": "text/event-stream"}
        )
        assert "yeoul-queued" in events.response.headers
        assert [event.choices[0].finish_reason for event in events][-1] == "length"
        responses = client.responses.create(
            model="fake", input="hi", max_output_tokens=3, stream=True, extra_headers={"Accept": "text/event-stream"}
        )
        assert [event.type for event in responses][-1] == "response.incomplete"


def test_anthropics_client_reads_them(server):
    with Crowd(server), anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        events = client.messages.create(
            model="fake", messages=HI, max_tokens=3, stream=True, extra_headers={"Accept": "text/event-stream"}
        )
        assert [event.type for event in events][-1] == "message_stop"


def test_event_source_reads_them(server, tmp_path):
    node = ["node", "--experimental-eventsource"]
    if (
        shutil.which("node") is None
        or b"function" not in subprocess.run([*node, "-p", "typeof EventSource"], capture_output=True, check=False).stdout
    ):
        pytest.skip("there is no node with EventSource (20.18, 22.3 or newer)")
    (tmp_path / "raw").write_text(read_raw(server, "/v1/completions", {"prompt": "lake", "max_tokens": 3}))
    replay = (
        "const http = require('http'); const raw = require('fs').readFileSync(process.argv[1]);"
        "http.createServer((_, answer) => { answer.setHeader('content-type', 'text/event-stream'); answer.end(raw) })"
        ".listen(0, '127.0.0.1', function () { process.argv[1] = `http://127.0.0.1:${this.address().port}/`;"
        + EVENT_SOURCE.replace("source.close()", "{ source.close(); setTimeout(process.exit, 0, 0) }")
        + "})"
    )
    read = subprocess.run(
        [*node, "-e", replay, str(tmp_path / "raw")], capture_output=True, text=True, check=True, timeout=60
    )
    *events, done = read.stdout.splitlines()
    assert done == "[DONE]"
    assert json.loads(events[-1])["choices"][0]["finish_reason"] == "length"


def test_an_answer_that_is_whole_has_a_header(server):
    with Crowd(server):
        answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": "lake", "max_tokens": 1}, timeout=60)
    assert re.fullmatch(r"place=\d+(; expected_seconds=[\d.]+)?", answer.headers["yeoul-queued"])
