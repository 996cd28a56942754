"""What BoundedHttpProtocol does better than uvicorn's own: several requests in one go, offers of HTTP/2, long headers."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.unit.web_process.fake_server import FakeServer, serve, until
from yeoul.web_process.http.http_protocol import MAX_HEADER_BYTES


def request(body: dict[str, object], *headers: bytes) -> bytes:
    content = json.dumps({"prompt": "hi"} | body).encode()
    length = b"content-length: %d" % len(content)
    return b"\r\n".join([b"POST /v1/completions HTTP/1.1", b"host: localhost", length, *headers, b"", content])


@pytest.mark.parametrize("streams", [True, False])
def test_requests_end_when_their_client_leaves_even_if_others_wait_behind_them(streams):
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request({"stream": streams}) * 3)
        await until(lambda: server.engine.llm.num_unfinished == 1)
        writer.transport.abort()
        await until(lambda: server.engine.llm.num_unfinished == 0)
        server.client.gate.set()
        assert (await server.complete()).json()["choices"][0]["text"] == "hello world"
        assert len(server.client.added) == 2  # those behind the first were never begun

    serve(scene)


OFFERS = {
    "curl": (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    "java": (b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA", b"Upgrade: h2c"),
    "websocket": (b"Connection: keep-alive, upgrade", b"Upgrade: websocket"),
}


@pytest.mark.parametrize("name", OFFERS)
@pytest.mark.parametrize("num_pieces", [1, 2, 50])
def test_an_offer_to_speak_something_else_is_passed_over_and_the_body_is_read(name, num_pieces):
    async def scene(server: FakeServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        sent = request({}, *OFFERS[name]) * 2
        size = -(-len(sent) // num_pieces)
        for start in range(0, len(sent), size):
            writer.write(sent[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            length = next(int(line.split()[1]) for line in head.splitlines() if line.startswith(b"content-length"))
            assert b"hello world" in await reader.readexactly(length)
        writer.close()

    serve(scene)


@pytest.mark.parametrize("method", [b"CONNECT /", b"CONNECT elsewhere:443"])
def test_a_demand_to_be_a_proxy_is_refused(method):
    async def scene(server: FakeServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(method + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()

    serve(scene)


@pytest.mark.parametrize("num_headers", [1, 100])
def test_headers_that_come_in_one_piece_have_the_same_limit(num_headers):
    async def scene(server: FakeServer) -> None:
        for num_bytes, status in ((MAX_HEADER_BYTES // 2, b"200"), (MAX_HEADER_BYTES + 20_000, b"431")):
            header = b"x:" + b"y" * max(1, num_bytes // num_headers - 4) + b"\r\n"
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /version HTTP/1.1\r\nconnection: close\r\n" + header * num_headers + b"\r\n")
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 " + status), answer
            assert status == b"200" or str(MAX_HEADER_BYTES).encode() in answer
            writer.close()

    serve(scene)


@pytest.mark.parametrize("connection", [b"", b"connection: keep-alive\r\n"])
@pytest.mark.parametrize("streams", [True, False])
def test_a_client_of_http_1_0_gets_no_chunks_and_the_connections_end(connection, streams):
    async def scene(server: FakeServer) -> None:
        for path, status in ((b"/v1/completions", b"200"), (b"/nothing", b"404")):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            body = json.dumps({"prompt": "hi", "stream": streams}).encode()
            head = b"POST " + path + b" HTTP/1.0\r\n" + connection
            writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            answer_head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
            assert answer_head.startswith(b"HTTP/1.1 " + status)
            assert b"transfer-encoding" not in answer_head
            assert answer.startswith(b"data: " if streams and status == b"200" else b"{")
            assert not streams or status == b"404" or answer.endswith(b"data: [DONE]\n\n")
            writer.close()

    serve(scene)


@pytest.mark.parametrize("path", ["/v1/chat/completions/", "/v1/completions/", "/health/", "/metrics/", "/docs/"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_a_slash_too_many_is_no_route_and_never_a_redirect(path, method):
    async def scene(server: FakeServer) -> None:
        answer = await server.http.request(method, path)
        assert answer.status_code == 404
        assert "location" not in answer.headers
        if method != "HEAD":
            assert "leave the slash at the end out" in answer.json()["error"]["message"]

    serve(scene)
