"""Strangers and liars on the links between a web process and EngineCore, over tcp and over ipc: refused, and nobody minds."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator

import httpx
import msgspec
import pytest
import zmq

from tests.hostile_bytes import damage
from tests.running_server import RunningServer, free_port_pair, thread_names
from tests.unit.messages.samples import ADD, READY
from yeoul.messages.requests import AbortRequests
from yeoul.transport.curve_keys import CurveKeys, load_or_create_keys

BODY = {"model": "fake", "prompt": "river", "max_tokens": 12, "temperature": 0.7, "seed": 5, "ignore_eos": True}


def complete(server: RunningServer) -> str:
    answer = httpx.post(f"{server.url}/v1/completions", json=BODY, timeout=10.0)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


class Pair:
    """A web process that has joined an engine over tcp."""

    def __init__(self, engine: RunningServer, web: RunningServer, port: int, keys: CurveKeys) -> None:
        self.engine, self.web, self.keys = engine, web, keys
        self.ports = (port, port + 1)
        self.text = complete(web)
        self.pids = [*engine.tree(), *web.tree()]

    def assert_unharmed(self) -> None:
        assert complete(self.web) == self.text
        assert [*self.engine.tree(), *self.web.tree()] == self.pids
        threads = thread_names(self.engine.by_title()["yeoul::EngineCore"])
        for name in ("process_input_s", "process_output_", "curve_authentic"):
            assert any(thread.startswith(name) for thread in threads), threads
        assert "Traceback" not in self.engine.log() + self.web.log()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    path = str(tmp_path_factory.mktemp("keys") / "engine.keys")
    port = free_port_pair()
    link = ("--engine-address", f"tcp://127.0.0.1:{port}", "--engine-key-file", path)
    with RunningServer("--headless", *link, ready_line="EngineCore") as engine, RunningServer(*link) as web:
        yield Pair(engine, web, port, load_or_create_keys(path))


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00"  # of ZMTP 3.0, up to the mechanism
RAW = {
    "nothing": b"",
    "half a greeting": GREETING[:6],
    "http": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "noise": random.Random(1).randbytes(100_000),
    "no mechanism": GREETING + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31) + b"\x04\x19\x05READY" + bytes(18),
    "an unknown mechanism": GREETING + b"\xff" * 20 + bytes(32),
    "curve, then noise": GREETING + b"CURVE".ljust(20, b"\0") + bytes(32) + random.Random(2).randbytes(1000),
    "a command of 2**63 bytes": GREETING + b"CURVE".ljust(20, b"\0") + bytes(32) + b"\x06" + struct.pack(">Q", 1 << 63),
    "a hello of zeros": GREETING + b"CURVE".ljust(20, b"\0") + bytes(32) + b"\x04\xc8\x05HELLO\x01\x00" + bytes(192),
}


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("which", [0, 1], ids=["input", "output"])
def test_bytes_that_are_no_zeromq_are_refused(pair: Pair, which: int, name: str) -> None:
    with socket.create_connection(("127.0.0.1", pair.ports[which]), timeout=5.0) as connection:
        connection.settimeout(0.3)
        try:
            connection.sendall(RAW[name])
            while connection.recv(4096):
                pass
        except OSError:  # reset, or waited for in vain
            pass
        pair.assert_unharmed()


def strangers(keys: CurveKeys) -> dict[str, tuple[str, str, str] | None]:
    """Public key, secret key and the server's key of clients that are not to be let in."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    return {
        "no key": None,
        "a key of its own": (public, secret, keys.server_public),
        "another server's key": (keys.client_public, keys.client_secret, public),
        "the client's public key with another secret": (keys.client_public, secret, keys.server_public),
        "the server's own keys": (keys.server_public, keys.server_secret, keys.server_public),
    }


@pytest.mark.parametrize("name", strangers(CurveKeys("", "", "", "")))
@pytest.mark.parametrize("which", [0, 1], ids=["input", "output"])
def test_a_stranger_is_not_let_in(pair: Pair, which: int, name: str) -> None:
    chosen = strangers(pair.keys)[name]
    with zmq.Context() as context, context.socket((zmq.PUSH, zmq.DEALER)[which]) as stranger:
        stranger.linger = 0
        stranger.setsockopt(zmq.IMMEDIATE, 1)  # only a finished handshake counts as connected
        stranger.setsockopt(zmq.SNDTIMEO, 400)
        if chosen is not None:
            stranger.curve_publickey, stranger.curve_secretkey, stranger.curve_serverkey = (key.encode() for key in chosen)
        stranger.connect(f"tcp://127.0.0.1:{pair.ports[which]}")
        with pytest.raises(zmq.Again):
            stranger.send_multipart([b"web-stranger", b"\xc1"])
    pair.assert_unharmed()


@pytest.fixture
def insider(pair: Pair) -> Iterator[list[zmq.Socket[bytes]]]:
    """Sockets to both ports of somebody who holds the keys."""
    keys = pair.keys
    with zmq.Context() as context, context.socket(zmq.PUSH) as to_input, context.socket(zmq.DEALER) as to_output:
        for end, port in zip((to_input, to_output), pair.ports, strict=True):
            end.linger = 2000
            end.curve_publickey, end.curve_secretkey = keys.client_public.encode(), keys.client_secret.encode()
            end.curve_serverkey = keys.server_public.encode()
            end.connect(f"tcp://127.0.0.1:{port}")
        yield [to_input, to_output]


FRAMES = {
    "one empty frame": [b""],
    "one frame": [b"alone"],
    "three frames": [b"web-x", b"\x80", b"more"],
    "a thousand frames": [b"x"] * 1000,
    "an empty payload": [b"web-x", b""],
    "noise": [b"web-x", random.Random(3).randbytes(1000)],
    "an array of 4 GiB": [b"web-x", b"\xdd\xff\xff\xff\xff"],
    "nesting": [b"web-x", b"\x91" * 100_000],
    "an unknown message": [b"web-x", msgspec.msgpack.encode({"type": "format_disk"})],
    "a message without a type": [b"web-x", b"\x80"],
    "an answer": [b"web-x", msgspec.msgpack.encode(READY)],
    "16 MiB of nothing": [b"web-x", bytes(16 << 20)],
    "an id of 1 MiB": [bytes(1 << 20), b"\xc1"],
}


@pytest.mark.parametrize("name", FRAMES)
def test_what_one_with_the_keys_sends_wrongly_is_dropped_and_logged(
    pair: Pair, insider: list[zmq.Socket[bytes]], name: str
) -> None:
    num_lines = pair.engine.log().count("dropped a message of")
    insider[0].send_multipart(FRAMES[name])
    deadline = time.monotonic() + 10.0
    while pair.engine.log().count("dropped a message of") == num_lines:
        assert time.monotonic() < deadline, "nothing was logged"
        time.sleep(0.01)
    pair.assert_unharmed()


def test_requests_of_one_who_has_not_said_hello_change_nothing(pair: Pair, insider: list[zmq.Socket[bytes]]) -> None:
    source = random.Random(5)
    samples = [msgspec.msgpack.encode(ADD), msgspec.msgpack.encode(AbortRequests(["r"]))]
    for _ in range(200):
        insider[0].send_multipart([b"web-x", damage(source, source.choice(samples))])
    for _ in range(200):
        insider[1].send_multipart([source.randbytes(50)] * source.randint(1, 3))
    pair.assert_unharmed()
