"""The readers that people use, over every kind of event that a stream has, with keep-alives before and between them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.server
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import aiohttp
import httpx
import openai
import pytest
import requests

from tests.running_server import RunningServer
from yeoul.web_process.http.sse import EMPTY_EVENT
from yeoul.web_process.openai.answer_format import DONE

COMMON = {"model": "fake", "max_tokens": 4, "seed": 1, "ignore_eos": True, "stream": True}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "texts": ("/v1/completions", {"prompt": "river"}),
    "log probabilities and usage": (
        "/v1/completions",
        {"prompt": "river", "logprobs": 2, "stream_options": {"include_usage": True}},
    ),
    "messages": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hé\n\nllo"}]}),
    "several choices": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "n": 2}),
    "an error in the middle": ("/v1/completions", {"prompt": "river", "max_tokens": 400, "deadline_seconds": 0.6}),
}


@pytest.fixture(scope="module")
def server():
    with RunningServer("--keep-alive-seconds", "0.03", "--fake-step-seconds", "0.1") as running:
        yield running


def read_raw(server, path, body, version="1.1") -> tuple[bytes, bytes]:
    """Head and body of the answer as they come on the wire, without chunks."""
    content = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        head = f"POST {path} HTTP/{version}\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n"
        connection.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(content) + content)
        if version == "1.0":
            received = b"".join(iter(lambda: connection.recv(65536), b""))
            return received.partition(b"\r\n\r\n")[0], received.partition(b"\r\n\r\n")[2]
        response = http.client.HTTPResponse(connection, method="POST")
        response.begin()
        return str(response.headers).encode(), response.read()


def payloads(lines: Iterator[str]) -> Iterator[str]:
    """What follows ``data: `` on each line that has something; a reader by lines knows no more."""
    for line in lines:
        if line:
            assert line.startswith("data: "), line
            yield line.removeprefix("data: ")


def with_httpx(server, path, body):
    with httpx.stream("POST", server.url + path, json=body, timeout=30) as answer:
        return list(payloads(answer.iter_lines()))


def with_requests(server, path, body):
    with requests.post(server.url + path, json=body, stream=True, timeout=30) as answer:
        return list(payloads(line.decode() for line in answer.iter_lines()))


def with_curl(server, path, body):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "-sN", server.url + path, "-H", "content-type: application/json", "-d", json.dumps(body)]
    return list(payloads(iter(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())))


def with_aiohttp_by_pieces(server, path, body):
    """As ``vllm bench serve`` reads: pieces as they come, stripped and put together again, taken apart at blank lines."""

    async def read():
        found, rest = [], ""
        async with aiohttp.ClientSession() as session, session.post(server.url + path, json=body) as answer:
            async for piece in answer.content.iter_any():
                if not (piece := piece.strip()):
                    continue
                rest += piece.decode()
                *whole, rest = rest.split("\n\n")
                with contextlib.suppress(ValueError):  # what is left may be whole as well: its end was stripped
                    if rest != "data: [DONE]":
                        json.loads(rest.removeprefix("data: "))
                    whole, rest = [*whole, rest], ""
                found += [event.strip() for event in whole if event.strip()]
        assert not rest
        return list(payloads(iter(found)))

    return asyncio.run(read())


def with_aiohttp_by_lines(server, path, body):
    async def read():
        async with aiohttp.ClientSession() as session, session.post(server.url + path, json=body) as answer:
            return list(payloads(iter([line.decode().rstrip("\n") async for line in answer.content])))

    return asyncio.run(read())


EVENT_SOURCE = """
const source = new EventSource(process.argv[1])
source.onmessage = event => { console.log(event.data); if (event.data === "[DONE]") source.close() }
source.onerror = event => { console.log("broken"); source.close() }
"""


def with_event_source(server, path, body):
    """EventSource can only GET: it is given what the server sent, from a server of the test's own."""
    node = ["node", "--experimental-eventsource"]
    if (
        shutil.which("node") is None
        or b"function" not in subprocess.run([*node, "-p", "typeof EventSource"], capture_output=True, check=False).stdout
    ):
        pytest.skip("there is no node with EventSource (20.18, 22.3 or newer)")
    recorded = read_raw(server, path, body)[1]

    class Replay(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/event-stream; charset=utf-8")
            self.end_headers()
            self.wfile.write(recorded)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Replay) as replay:
        thread = threading.Thread(target=replay.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{replay.server_port}/"
        try:
            script = [*node, "-e", EVENT_SOURCE, url]
            return subprocess.run(script, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
        finally:
            replay.shutdown()
            thread.join()


READERS = [
    with_httpx, with_requests, with_curl, with_aiohttp_by_pieces, with_aiohttp_by_lines, with_event_source,
]  # fmt: skip


def summary(events: list[str]) -> dict[str, Any]:
    """What an answer comes to, however its text was divided among events."""
    assert events[-1] == "[DONE]"
    texts: dict[int, str] = {}
    found: dict[str, Any] = {"texts": texts, "ends": {}, "logprobs": 0, "usage": None, "error": None}
    for event in map(json.loads, events[:-1]):
        found["usage"] = (event.get("usage") or {}).get("total_tokens", found["usage"])
        found["error"] = event.get("error", {}).get("type", found["error"])
        for choice in event.get("choices", []):
            delta = choice.get("delta", {}).get("content") if "delta" in choice else choice["text"]
            texts[choice["index"]] = texts.get(choice["index"], "") + (delta or "")
            found["logprobs"] += len((choice.get("logprobs") or {}).get("tokens", []))
            if choice.get("finish_reason"):
                found["ends"][choice["index"]] = choice["finish_reason"]
    if found["error"]:  # where in its answer it strikes is a matter of time
        texts.clear()
    return found


@pytest.fixture(scope="module")
def expected(server):
    """What the bytes of each kind of stream say, read once."""
    found = {}
    for kind, (path, fields) in KINDS.items():
        raw = read_raw(server, path, COMMON | fields)[1]
        assert raw.startswith(EMPTY_EVENT)
        assert raw.count(EMPTY_EVENT + b"data: ") >= 2
        assert raw.endswith(DONE)
        found[kind] = summary(list(payloads(iter(raw.decode().splitlines()))))
        assert found[kind]["error"] if "error" in kind else len(found[kind]["ends"]) == fields.get("n", 1), raw
    return found


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_reads_the_same(server, expected, kind, reader):
    path, fields = KINDS[kind]
    assert summary(reader(server, path, COMMON | fields)) == expected[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_openais_client_reads_the_same(server, expected, kind):
    path, fields = KINDS[kind]
    events: list[str] = []
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=30) as client:
        create: Any = client.chat.completions.create if "chat" in path else client.completions.create
        known = {"prompt", "messages", "logprobs", "stream_options", "n", "max_tokens", "model", "seed", "stream"}
        body = COMMON | fields
        own = {name: value for name, value in body.items() if name in known}
        ended: Any = pytest.raises(openai.APIError) if expected[kind]["error"] else contextlib.nullcontext()
        with ended as caught:
            events += [
                event.model_dump_json()
                for event in create(**own, extra_body={name: value for name, value in body.items() if name not in known})
            ]
    if caught is not None:
        assert caught.value.type == expected[kind]["error"]
    else:
        assert summary([*events, "[DONE]"]) == expected[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_of_http_1_0_gets_the_events_as_they_are(server, expected, kind):
    path, fields = KINDS[kind]
    head, raw = read_raw(server, path, COMMON | fields, version="1.0")
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    assert summary(list(payloads(iter(raw.decode().splitlines())))) == expected[kind]
