"""Channels with all their ends in one process: any size, in order, and how they end."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from yeoul.errors import TransportClosedError, TransportError, TransportTimeoutError
from yeoul.transport.channel import (
    ChannelHandle,
    ChannelReader,
    ChannelWriter,
    open_broadcast,
    open_inbound,
)


class Broadcast:
    """A writer and its readers."""

    def __init__(self, folder: Path, num_readers: int, num_slots: int = 4, slot_bytes: int = 100) -> None:
        self.writer, self.handles = open_broadcast(str(folder), num_readers, num_slots=num_slots, slot_bytes=slot_bytes)
        self.readers = [ChannelReader(handle) for handle in self.handles]
        self.writer._overflow.wait_until_sendable(time.monotonic() + 5, lambda: None)  # for tests that go past send()

    def close(self) -> None:
        for end in (self.writer, *self.readers):
            end.close()
            end.close()


@pytest.fixture
def broadcast(tmp_path: Path) -> Iterator[Broadcast]:
    channel = Broadcast(tmp_path, num_readers=2)
    yield channel
    channel.close()


@pytest.fixture
def inbound(tmp_path: Path) -> Iterator[tuple[ChannelWriter, ChannelReader]]:
    reader, handle = open_inbound(str(tmp_path), num_slots=4, slot_bytes=100)
    writer = ChannelWriter(handle)
    yield writer, reader
    writer.close()
    reader.close()


def test_small_and_large_messages_arrive_in_order_at_every_reader(broadcast: Broadcast) -> None:
    sent = [os.urandom(size) for size in (0, 1, 99, 100, 101, 3, 100_000, 2, 5_000_000, 0)]
    for payload in sent:
        broadcast.writer.send(payload, 5)
        assert [reader.receive(5) for reader in broadcast.readers] == [payload, payload]


def test_a_child_writes_and_we_read(inbound: tuple[ChannelWriter, ChannelReader]) -> None:
    writer, reader = inbound
    for payload in (b"small", b"L" * 1000, b""):
        writer.send(payload)
        assert reader.receive() == payload


def test_no_name_is_left_once_both_sides_are_attached(broadcast: Broadcast, tmp_path: Path) -> None:
    assert os.listdir(tmp_path) == []
    broadcast.writer.send(b"x" * 1000, 5)
    assert broadcast.readers[1].receive(5) == b"x" * 1000
    assert os.listdir(tmp_path) == []


def test_a_handle_travels_as_a_message_and_names_its_descriptors(tmp_path: Path) -> None:
    reader, handle = open_inbound(str(tmp_path), num_slots=2, slot_bytes=64)
    copy = msgspec.msgpack.decode(msgspec.msgpack.encode(handle), type=ChannelHandle)
    assert copy == handle
    assert all(os.fstat(fd).st_size > 2 * 64 for fd in copy.fds)
    writer = ChannelWriter(copy)
    writer.send(b"hello")
    assert reader.receive() == b"hello"
    writer.close()
    reader.close()


def test_large_messages_count_as_slots_and_hold_the_writer_back(broadcast: Broadcast) -> None:
    for number in range(4):
        broadcast.writer.send(b"%d" % number * 200, 5)
    with pytest.raises(TransportTimeoutError):
        broadcast.writer.send(b"one too many" * 200, 0.02)
    for reader in broadcast.readers:
        assert reader.receive(5) == b"0" * 200
    broadcast.writer.send(b"4", 5)
    for reader in broadcast.readers:
        assert [reader.receive(5)[:1] for _ in range(4)] == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("act", ["close", "interrupt"])
@pytest.mark.parametrize("size", [10, 1000])
def test_a_thread_in_receive_is_woken_on_this_side(broadcast: Broadcast, act: str, size: int) -> None:
    if size == 1000:  # it waits for a body that never comes
        broadcast.writer._publish(b"", 1, None)
    reader = broadcast.readers[0]
    threading.Timer(0.05, getattr(reader, act)).start()
    with pytest.raises(TransportClosedError):  # and no timeout
        reader.receive(30)
    with pytest.raises(TransportClosedError):
        reader.receive(30)


def test_a_thread_in_send_is_woken_on_this_side(broadcast: Broadcast) -> None:
    for _ in range(4):
        broadcast.writer.send(b"")
    threading.Timer(0.05, broadcast.writer.interrupt).start()
    with pytest.raises(TransportClosedError):  # and no timeout
        broadcast.writer.send(b"", 30)


def test_closing_ends_the_other_side_after_what_was_sent(broadcast: Broadcast) -> None:
    broadcast.writer.send(b"large" * 100, 5)
    broadcast.writer.close()
    for reader in broadcast.readers:
        assert reader.receive(5) == b"large" * 100
        with pytest.raises(TransportClosedError):
            reader.receive(5)


def test_a_late_body_is_waited_for_and_a_timeout_loses_nothing(broadcast: Broadcast) -> None:
    broadcast.writer._publish(b"", 1, None)
    with pytest.raises(TransportTimeoutError):
        broadcast.readers[0].receive(0.03)
    broadcast.writer._overflow.send(b"late")
    assert broadcast.readers[0].receive(5) == b"late"


def test_a_large_message_for_a_reader_that_never_attached_times_out(tmp_path: Path) -> None:
    writer, handles = open_broadcast(str(tmp_path), 2, num_slots=4, slot_bytes=100)
    reader = ChannelReader(handles[0])
    with pytest.raises(TransportTimeoutError):
        writer.send(b"x" * 1000, 0.05)
    writer.send(b"small ones wait in the ring", 0.05)
    assert reader.receive(5) == b"small ones wait in the ring"
    reader.close()
    writer.close()


def test_a_second_writer_or_reader_is_refused_and_disturbs_nobody(broadcast: Broadcast, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="is taken"):
        ChannelReader(broadcast.handles[1])
    reader, handle = open_inbound(str(tmp_path), num_slots=4, slot_bytes=100)
    writer = ChannelWriter(handle)
    with pytest.raises(TransportError, match="is taken"):
        ChannelWriter(handle)
    writer.send(b"goes on")
    assert reader.receive(5) == b"goes on"
    writer.close()
    reader.close()


def test_a_handle_of_the_other_kind_is_refused(broadcast: Broadcast, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="a reader's; expected a writer's"):
        ChannelWriter(broadcast.handles[0])
    reader, handle = open_inbound(str(tmp_path), num_slots=4, slot_bytes=100)
    with pytest.raises(TransportError, match="a writer's; expected a reader's"):
        ChannelReader(handle)
    reader.close()


def test_an_overflow_that_nobody_offers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("yeoul.transport.overflow._CONNECT_TIMEOUT_SECONDS", 0.05)
    reader, handle = open_inbound(str(tmp_path), num_slots=4, slot_bytes=100)
    with pytest.raises(TransportTimeoutError, match="did not answer"):
        ChannelWriter(msgspec.structs.replace(handle, addresses=[f"ipc://{tmp_path}/nobody"]))
    reader.close()


def test_a_folder_that_does_not_exist_is_an_error_that_leaks_nothing(tmp_path: Path) -> None:
    zmq.Context.instance()
    num_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(TransportError, match="cannot open ipc://"):
        open_inbound(str(tmp_path / "missing"), num_slots=4, slot_bytes=100)
    with pytest.raises(TransportError, match="cannot open ipc://"):
        open_broadcast(str(tmp_path / "missing"), 3, num_slots=4, slot_bytes=100)
    with pytest.raises(TransportError, match="a ring cannot have 4 slots"):
        open_broadcast(str(tmp_path), 0, num_slots=4, slot_bytes=100)
    deadline = time.monotonic() + 5
    while len(os.listdir("/proc/self/fd")) > num_before and time.monotonic() < deadline:
        time.sleep(0.01)  # ZeroMQ closes its descriptors in the background
    assert len(os.listdir("/proc/self/fd")) <= num_before


def test_an_unknown_kind_is_an_error(broadcast: Broadcast) -> None:
    broadcast.writer._publish(b"", 7, None)
    with pytest.raises(TransportError, match="unknown kind 7"):
        broadcast.readers[0].receive(5)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    num_slots=st.integers(1, 3),
    actions=st.lists(st.tuples(st.sampled_from(["send", "receive 0", "receive 1"]), st.integers(0, 300)), max_size=60),
)
def test_a_channel_behaves_like_a_bounded_queue_for_each_reader(
    tmp_path: Path, num_slots: int, actions: list[tuple[str, int]]
) -> None:
    channel = Broadcast(tmp_path, 2, num_slots=num_slots, slot_bytes=100)
    queues: list[deque[bytes]] = [deque(), deque()]
    for count, (action, size) in enumerate(actions):
        if action == "send":
            payload = bytes([count % 256]) * size
            if max(map(len, queues)) < num_slots:
                channel.writer.send(payload, 5)
                for queue in queues:
                    queue.append(payload)
            else:
                with pytest.raises(TransportTimeoutError):
                    channel.writer.send(payload, 0)
            continue
        index = int(action[-1])
        if queues[index]:
            assert channel.readers[index].receive(5) == queues[index].popleft()
        else:
            with pytest.raises(TransportTimeoutError):
                channel.readers[index].receive(0)
    channel.close()


def test_what_waits_and_what_has_crossed_is_counted_at_both_ends(broadcast: Broadcast) -> None:
    small, large = b"river", bytes(1000)
    for payload in (small, large):
        broadcast.writer.send(payload, 5)
    assert broadcast.readers[0].receive(5) == small
    counts = [broadcast.writer.count(index) for index in range(2)]
    assert [(one.num_messages, one.num_waiting, one.num_slots) for one in counts] == [(2, 1, 4), (2, 2, 4)]
    assert counts[0].num_bytes == len(small) + len(large)
    assert broadcast.readers[0].count() == counts[0]._replace(num_bytes=len(small))
    assert broadcast.writer.count(99).num_waiting == 2  # of a reader that there is not: everything
    broadcast.writer.close()
    assert broadcast.writer.count(0).num_messages == 0
