"""HTTP that no library would send: broken, endless, early, late, several at once; the server refuses it and goes on."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.hostile_bytes import damage
from tests.running_server import RunningServer, num_descriptors

BODY = json.dumps({"model": "fake", "prompt": "river", "max_tokens": 8, "temperature": 0, "ignore_eos": True}).encode()
HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
WHOLE = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")
HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"


def chunked(*chunks: bytes) -> bytes:
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"".join(chunks)


def has_answers(received: bytes, num_answers: int) -> bool:
    """Whether so many whole answers are here."""
    for _ in range(num_answers):
        head, blank, received = received.partition(b"\r\n\r\n")
        lengths = [int(line.split(b":")[1]) for line in head.splitlines() if line.startswith(b"content-length")]
        if not blank or len(received) < sum(lengths):
            return False
        received = received[sum(lengths) :]
    return True


class Server:
    """A running server, and what it was before."""

    def __init__(self, running: RunningServer) -> None:
        self.running = running
        self.pids = running.tree()
        self.text = self.complete()

    def complete(self) -> str:
        answer = httpx.post(f"{self.running.url}/v1/completions", content=BODY, timeout=10.0)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["text"])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.running.port), timeout=10.0)

    def send(self, sent: bytes, num_answers: int) -> bytes:
        """What comes back for these bytes: so many answers, or everything until the server closes; a reset ends it."""
        answer = b""
        with self.connect() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            if num_answers == 0:
                connection.shutdown(socket.SHUT_WR)
            while num_answers == 0 or not has_answers(answer, num_answers):
                if not (piece := connection.recv(65536)):
                    break
                answer += piece
        return answer

    def assert_unharmed(self) -> None:
        assert self.running.tree() == self.pids
        assert self.complete() == self.text
        assert httpx.get(f"{self.running.url}/health", timeout=10.0).status_code == 200
        assert "Traceback" not in self.running.log()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with RunningServer("--max-model-len", "256", "--request-timeout-seconds", "2") as running:
        yield Server(running)


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in STATUS_LINE.findall(answer)]


# Name -> what is sent, the statuses that come back. The client closes its side behind it.
CASES: dict[str, tuple[bytes, list[int]]] = {
    "no http": (b"hello\r\n\r\n", [400]),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),
    "an unknown method": (b"BREW /health HTTP/1.1\r\nhost: localhost\r\n\r\n", [400]),
    "no version": (b"GET /health\r\n\r\n", [200]),
    "a version of the future": (b"GET /health HTTP/9.9\r\nhost: localhost\r\n\r\n", [400]),
    "http/2 by prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    "a blank before the colon": (b"GET /health HTTP/1.1\r\nhost : x\r\n\r\n", [400]),
    "a header without a colon": (b"GET /health HTTP/1.1\r\nhost\r\n\r\n", [400]),
    "a zero byte in a header": (b"GET /health HTTP/1.1\r\nhost: a\0b\r\n\r\n", [400]),
    "a zero byte in the path": (b"GET /hea\0lth HTTP/1.1\r\nhost: localhost\r\n\r\n", [400]),
    "a path of bytes": (b"GET /%ff%fe%00 HTTP/1.1\r\nhost: localhost\r\n\r\n", [404]),
    "a path that climbs": (b"GET /../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n", [404]),
    "a whole address as path": (b"GET http://elsewhere/health HTTP/1.1\r\nhost: localhost\r\n\r\n", [200]),
    "a proxy's method": (b"CONNECT elsewhere:443 HTTP/1.1\r\nhost: localhost\r\n\r\n", [400]),
    "a path of 100 kB": (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", [414]),
    "a header of 100 kB": (b"GET /health HTTP/1.1\r\nhost: " + b"a" * 100_000 + b"\r\n\r\n", [431]),
    "ten thousand headers": (b"GET /health HTTP/1.1\r\n" + b"x-abc: y\r\n" * 10_000 + b"\r\n", [431]),
    "a length of words": (HEAD + b"content-length: much\r\n\r\n", [400]),
    "a negative length": (HEAD + b"content-length: -1\r\n\r\n", [400]),
    "a length of 2**64": (HEAD + b"content-length: 18446744073709551616\r\n\r\n", [400]),
    "a length of 2**63": (HEAD + b"content-length: 9223372036854775808\r\n\r\n", [413]),
    "two lengths": (HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n{}...", [400]),
    "a length and chunks": (HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", [400]),
    "an unknown encoding": (HEAD + b"transfer-encoding: gzip\r\n\r\n", [400]),
    "a chunk size of words": (chunked(b"zz\r\n"), [400]),
    "a chunk of 2**64": (chunked(b"10000000000000000\r\n"), [400]),
    "a chunk longer than it says": (chunked(b"1\r\n{}\r\n0\r\n\r\n"), [400]),
    "a negative chunk": (chunked(b"-1\r\n{}\r\n0\r\n\r\n"), [400]),
    "no chunk at all": (chunked(b"0\r\n\r\n"), [400]),
    "a good body in chunks": (chunked(b"1;name=value\r\n{\r\n%x\r\n" % len(BODY[1:]), BODY[1:], b"\r\n0\r\n\r\n"), [200]),
    "half a request line": (b"GET /hea", []),
    "half a header": (b"GET /health HTTP/1.1\r\nho", []),
    "half a body": (WHOLE[:-5], []),
    "half a chunk": (chunked(b"ff\r\n{"), []),
    "nothing": (b"", []),
    "a body that is no JSON": (HEAD + b"content-length: 3\r\n\r\n\0\xff{", [400]),
    "a compressed body": (HEAD + b"content-encoding: gzip\r\ncontent-length: 3\r\n\r\n\x1f\x8b\x08", [400]),
    "a good request": (WHOLE, [200]),
    "three good requests at once": (HEALTH + WHOLE + HEALTH, [200, 200, 200]),
    "a good request, then noise": (HEALTH + b"\0\0\0\0\r\n\r\n", [400]),
    "an upgrade": (b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", [200]),
    "an upgrade that also closes": (HEALTH[:-2] + b"connection: close, upgrade\r\nupgrade: h2c\r\n\r\n", [200]),
    "an upgrade, then another request": (HEALTH[:-2] + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n" + WHOLE, [200, 200]),
    "an upgrade with a body": (WHOLE.replace(b"host: ", b"connection: upgrade\r\nupgrade: h2c\r\nhost: "), [200]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_no_library_sends_is_refused_or_answered(server, name):
    sent, expected = CASES[name]
    answer = server.send(sent, len(expected))
    assert statuses(answer) == expected, answer[:2000]
    assert b"Traceback" not in answer
    server.assert_unharmed()


def test_a_thousand_damaged_requests_harm_nobody(server):
    source = random.Random(9)
    samples = [WHOLE, HEALTH, chunked(b"%x\r\n" % len(BODY), BODY, b"\r\n0\r\n\r\n"), HEALTH + WHOLE]
    for _ in range(1000):
        for status in statuses(server.send(damage(source, source.choice(samples)), 0)):
            assert status < 500
    server.assert_unharmed()


def test_headers_and_bodies_that_come_byte_by_byte_are_answered_or_left(server):
    with server.connect() as slow, server.connect() as endless:
        start = time.monotonic()
        for index in range(len(HEALTH)):
            slow.sendall(HEALTH[index : index + 1])
        assert statuses(slow.recv(65536)) == [200]
        left = False
        while not left and time.monotonic() - start < 20.0:  # the limit is 2 seconds
            try:
                endless.sendall(b"POST / HTTP/1.1\r\n" if not left else b"x")
                time.sleep(0.1)
            except ConnectionError:
                left = True
        assert left
    server.assert_unharmed()


@pytest.mark.parametrize("sent", [b"", WHOLE[:40], WHOLE[:-1], chunked(b"2\r\n{")], ids=["none", "head", "body", "chunk"])
def test_who_stops_sending_is_left_after_the_time_for_a_request(server, sent):
    with server.connect() as connection:
        connection.settimeout(30.0)
        connection.sendall(sent)
        start = time.monotonic()
        answer = connection.recv(65536)
        assert time.monotonic() - start > 1.0
        assert statuses(answer) in ([], [400], [408])
    server.assert_unharmed()


def test_connections_that_are_reset_in_any_moment_leave_nothing_behind(server):
    before = num_descriptors(server.running.pid)
    body = json.dumps({"prompt": "river", "max_tokens": 200, "stream": True, "ignore_eos": True}).encode()
    streaming = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body
    source = random.Random(3)
    for _ in range(100):
        with server.connect() as connection:
            connection.sendall(streaming[: source.choice((10, 200, len(streaming)))])
            if source.random() < 0.5:
                time.sleep(0.01)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
    deadline = time.monotonic() + 20.0
    while num_descriptors(server.running.pid) > before + 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert num_descriptors(server.running.pid) <= before + 5
    server.assert_unharmed()
    assert server.running.metrics()["yeoul:num_requests_running"] == 0


def test_many_requests_in_one_go_are_answered_in_their_order(server):
    answers: list[bytes] = []
    client = threading.Thread(target=lambda: answers.append(server.send((HEALTH + WHOLE) * 50, 100)))
    client.start()
    server.assert_unharmed()
    client.join(30.0)
    assert statuses(answers[0]) == [200] * 100
    parts = [part for part in answers[0].split(b"HTTP/1.1 ") if b"text_completion" in part]
    assert len(parts) == 50
    assert all(json.dumps(server.text).encode() in part for part in parts)
