"""EventSockets: numbered messages, replays, and subscribers that leave, do not read, or talk nonsense."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
import zmq

from tests.patience import until
from yeoul.errors import ConfigError
from yeoul.transport.event_sockets import EventSockets


class Publisher:
    """Sends what a test says, in the thread that waits as well."""

    def __init__(self, folder, *, num_kept=100, num_queued=100) -> None:
        self.endpoint, self.replay_endpoint = f"ipc://{folder}/live", f"ipc://{folder}/replay"
        self.sockets = EventSockets(
            self.endpoint, self.replay_endpoint, topic=b"topic", num_kept=num_kept, num_queued=num_queued, listens=True
        )
        self.num_subscriptions = 0
        self._payloads: list[bytes] = []
        self._is_ended = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_ended:
            self.num_subscriptions += self.sockets.wait()
            while self._payloads:
                self.sockets.send(self._payloads.pop(0))
        self.sockets.close()

    def send(self, *payloads: bytes) -> None:
        self._payloads += payloads
        self.sockets.wake()
        assert until(lambda: not self._payloads, 10.0)

    def close(self) -> None:
        self._is_ended = True
        self.sockets.wake()
        self._thread.join()
        self.sockets.release()


@contextlib.contextmanager
def publisher(folder, **settings) -> Iterator[Publisher]:
    one = Publisher(folder, **settings)
    try:
        yield one
    finally:
        one.close()


class Sockets:
    """Of a router; all are closed at the end."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._opened: list[zmq.Socket[bytes]] = []

    def socket(self, kind: int) -> zmq.Socket[bytes]:
        self._opened.append(self._context.socket(kind))
        self._opened[-1].setsockopt(zmq.RCVTIMEO, 10_000)
        return self._opened[-1]

    def close(self) -> None:
        for socket in self._opened:
            socket.close(linger=0)
        self._context.term()


@pytest.fixture
def context() -> Iterator[Sockets]:
    with contextlib.closing(Sockets()) as sockets:
        yield sockets


def subscriber(context, one: Publisher):
    """Who has subscribed before anything is sent."""
    num_before, socket = one.num_subscriptions, context.socket(zmq.SUB)
    socket.connect(one.endpoint)
    socket.subscribe(b"top")
    assert until(lambda: one.num_subscriptions > num_before, 10.0)
    return socket


def replay(context, one: Publisher, first: int) -> list[list[bytes]]:
    socket = context.socket(zmq.DEALER)
    socket.connect(one.replay_endpoint)
    socket.send_multipart([b"", first.to_bytes(8, "big")])
    answers: list[list[bytes]] = []
    while not answers or answers[-1][3]:
        assert socket.poll(10_000), "the replay does not end"
        answers.append(socket.recv_multipart())
    return answers


def test_a_subscriber_gets_topic_number_and_payload(tmp_path, context):
    with publisher(tmp_path) as one:
        socket = subscriber(context, one)
        one.send(b"a", b"b")
        assert [socket.recv_multipart() for _ in range(2)] == [
            [b"topic", bytes(8), b"a"],
            [b"topic", bytes(7) + b"\1", b"b"],
        ]


def test_a_replay_has_what_is_kept_and_then_its_end(tmp_path, context):
    with publisher(tmp_path, num_kept=3) as one:
        one.send(*[b"%d" % number for number in range(5)])
        end = [b"", b"", b"\xff" * 8, b""]
        kept = [[b"", b"topic", number.to_bytes(8, "big"), b"%d" % number] for number in (2, 3, 4)]
        assert replay(context, one, 0) == [*kept, end]
        assert replay(context, one, 4) == [kept[-1], end]
        assert replay(context, one, 99) == [end]


def test_a_long_replay_comes_whole_while_others_go_on(tmp_path, context):
    with publisher(tmp_path, num_kept=6_000) as one:
        one.send(*[bytes(10)] * 5_000)
        live = subscriber(context, one)
        socket = context.socket(zmq.DEALER)
        socket.connect(one.replay_endpoint)
        socket.send_multipart([b"", bytes(8)])
        one.send(b"live")
        assert live.recv_multipart()[2] == b"live"
        numbers = []
        while (frames := socket.recv_multipart())[3]:
            numbers.append(int.from_bytes(frames[2], "big"))
        assert numbers[:5_000] == list(range(5_000))


def test_numbers_of_messages_that_were_lost_are_missing(tmp_path, context):
    with publisher(tmp_path) as one:
        socket = subscriber(context, one)
        one.send(b"a")
        socket.recv_multipart()
        one.sockets.skip(2)
        one.send(b"b")
        assert int.from_bytes(socket.recv_multipart()[1], "big") == 3
        assert [int.from_bytes(frames[2], "big") for frames in replay(context, one, 1)[:-1]] == [3]


def test_who_does_not_read_holds_nobody_up_and_misses_numbers(tmp_path, context):
    """What was read is acknowledged by the half queue, and late: with a few in it at a time a queue of 200 is never full."""
    with publisher(tmp_path, num_queued=200, num_kept=0) as one:
        slow, quick = context.socket(zmq.SUB), subscriber(context, one)
        slow.setsockopt(zmq.RCVHWM, 1)
        slow.connect(one.endpoint)
        slow.subscribe(b"")
        assert until(lambda: one.num_subscriptions == 2, 10.0)
        for first in range(0, 400, 8):
            one.send(*[bytes(1 << 16)] * 8)
            assert [int.from_bytes(quick.recv_multipart()[1], "big") for _ in range(8)] == list(range(first, first + 8))
        numbers = []
        while slow.poll(200):
            numbers.append(int.from_bytes(slow.recv_multipart()[1], "big"))
        assert len(numbers) < 400
        assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("frames", [[b"x"], [b"", b"short"], [b"", bytes(8), b"more"], [b"full", bytes(8)], [b"", b""]])
def test_nonsense_is_dropped_and_the_next_one_is_answered(tmp_path, context, frames):
    with publisher(tmp_path) as one:
        one.send(b"a")
        socket = context.socket(zmq.DEALER)
        socket.connect(one.replay_endpoint)
        socket.send_multipart(frames)
        socket.send_multipart([b"", bytes(8)])
        assert [socket.recv_multipart()[3] for _ in range(2)] == [b"a", b""]


def test_who_leaves_in_a_replay_takes_nobody_along(tmp_path, context):
    with publisher(tmp_path, num_kept=2_000) as one:
        one.send(*[bytes(1_000)] * 2_000)
        with context.socket(zmq.DEALER) as socket:
            socket.connect(one.replay_endpoint)
            socket.send_multipart([b"", bytes(8)])
            socket.recv_multipart()
        assert len(replay(context, one, 1_990)) == 11


def test_what_is_kept_for_replays_has_a_limit_in_bytes(tmp_path, context, monkeypatch):
    monkeypatch.setattr("yeoul.transport.event_sockets._MAX_KEPT_BYTES", 1_000)
    with publisher(tmp_path) as one:
        one.send(*[bytes(300)] * 10)
        assert len(replay(context, one, 0)) == 3 + 1


def test_an_address_in_use_is_the_users_mistake(tmp_path, context):
    socket = context.socket(zmq.PUB)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    address = f"tcp://127.0.0.1:{port}"
    with pytest.raises(ConfigError, match=f"{address}: another process uses it"):
        EventSockets(address, None, topic=b"", num_kept=1, num_queued=1, listens=True)


def test_where_the_address_is_the_routers_it_is_connected_to(tmp_path, context):
    socket = context.socket(zmq.SUB)
    socket.bind(f"ipc://{tmp_path}/router")
    socket.subscribe(b"")
    sockets = EventSockets(f"ipc://{tmp_path}/router", None, topic=b"", num_kept=1, num_queued=1, listens=False)

    def has_subscribed() -> bool:
        socket.poll(20)  # who listens sends its subscriptions only while it looks
        sockets.wake()
        return sockets.wait()

    assert until(has_subscribed, 10.0)
    sockets.send(b"a")
    assert socket.recv_multipart()[2] == b"a"
    sockets.close()
    sockets.release()
