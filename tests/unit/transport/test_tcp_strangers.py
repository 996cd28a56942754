"""Strangers at the port of a worker's link: they hold nobody up, and neither look like the worker's end nor hide it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from yeoul.transport import tcp_channel
from yeoul.transport.curve_keys import CurveKeys, new_keys
from yeoul.transport.link_watch import Peer
from yeoul.transport.sockets import EngineContext
from yeoul.transport.tcp_channel import TcpHandle, TcpReader, TcpWriter

CURVE_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)


@pytest.fixture
def keys() -> CurveKeys:
    return new_keys()


class Answers:
    """The end in EngineCore of a link whose worker comes when ``worker`` is called."""

    def __init__(self, keys: CurveKeys) -> None:
        self.context = EngineContext(keys)
        self.reader = TcpReader(self.context.zmq_context)
        self.peer = Peer("Worker_0", self.reader.bind("tcp://127.0.0.1:*", keys))
        self.handle = TcpHandle(self.reader.address, keys)

    @contextlib.contextmanager
    def worker(self) -> Iterator[TcpWriter]:
        writer = TcpWriter()
        writer.connect(self.handle)
        yield writer
        writer.close()

    def stranger(self) -> socket.socket:
        parts = urlsplit(self.reader.address)
        assert parts.port is not None
        return socket.create_connection(("127.0.0.1", parts.port), timeout=10.0)

    def notes_end(self) -> bool:
        """Whether the next connection that ends is the last that may be the worker's."""
        while self.peer.events.poll(10_000):
            message = recv_monitor_message(self.peer.events)
            has_ended = self.peer.note(message["event"], message["value"])
            if message["event"] == zmq.EVENT_DISCONNECTED:
                return has_ended
        raise AssertionError("no connection has ended")


@pytest.fixture
def answers(keys: CurveKeys) -> Iterator[Answers]:
    answers = Answers(keys)
    yield answers
    answers.reader.close()
    answers.context.close()


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="HTTP"),
        pytest.param(bytes(range(200)), id="noise"),
        pytest.param(CURVE_GREETING, id="ZMTP"),
        pytest.param(CURVE_GREETING + b"\x04\x06\x05HELLO", id="a handshake that is none"),
    ],
)
def test_a_stranger_who_was_there_before_the_worker_is_not_its_end(answers, words):
    with answers.stranger() as stranger, answers.worker() as worker:
        worker.send(b"first", 10.0)
        assert answers.reader.receive(10.0) == b"first"
        stranger.sendall(words)
        with contextlib.suppress(OSError):  # it was sent away at its first word
            stranger.shutdown(socket.SHUT_WR)
        assert not answers.notes_end()
        worker.send(b"second", 10.0)
        assert answers.reader.receive(10.0) == b"second"
    assert answers.notes_end()


@pytest.mark.parametrize("words", [pytest.param(b"", id="nothing"), pytest.param(CURVE_GREETING, id="ZMTP")])
def test_the_end_of_a_worker_is_noted_while_a_stranger_stays(keys, monkeypatch, words):
    monkeypatch.setattr(tcp_channel, "_HANDSHAKE_MILLISECONDS", 300)
    answers = Answers(keys)
    with answers.stranger() as stranger:
        stranger.sendall(words)
        with answers.worker() as worker:
            worker.send(b"first", 10.0)
            assert answers.reader.receive(10.0) == b"first"
        assert answers.notes_end() or answers.notes_end(), "the stranger is sent away, before or after"
    answers.reader.close()
    answers.context.close()


def test_more_strangers_than_anybody_has_read_of_hold_nobody_up(answers):
    for _ in range(1_100):
        answers.stranger().close()
    with answers.worker() as worker:
        worker.send(b"first", 10.0)
        assert answers.reader.receive(10.0) == b"first"
