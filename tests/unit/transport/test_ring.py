"""The ring with all its ends in one process: order, back-pressure, closing, and shared memory that lies."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.patience import least
from yeoul.errors import TransportClosedError, TransportError, TransportTimeoutError
from yeoul.transport.channel import ChannelReader, ChannelWriter, RingGeometry, open_broadcast

# Where things lie in shared memory, as ring_atomics.c lays them out.
WRITER_POSITION = 0
READERS = 192
SLOT_NUMBER, SLOT_LENGTH = 0, 8


class Ring:
    """All ends of one ring."""

    def __init__(self, folder: Path, num_slots: int, slot_bytes: int, num_readers: int) -> None:
        self.writer, self.handles = open_broadcast(str(folder), num_readers, num_slots=num_slots, slot_bytes=slot_bytes)
        self.readers = [ChannelReader(handle) for handle in self.handles]
        self.fd = self.handles[0].ring.fd

    def send(self, payload: bytes, timeout_seconds: float = 5.0) -> None:
        self.writer.send(payload, timeout_seconds)

    def receive(self, index: int = 0, timeout_seconds: float = 5.0) -> bytes:
        return self.readers[index].receive(timeout_seconds)

    def poke(self, offset: int, data: bytes) -> None:
        with mmap.mmap(self.fd, os.fstat(self.fd).st_size) as memory:
            memory[offset : offset + len(data)] = data

    @property
    def slots_offset(self) -> int:
        return READERS + 64 * len(self.readers)

    def close(self) -> None:
        for end in (self.writer, *self.readers):
            end.close()


Make = Callable[..., Ring]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Ring] = []

    def open_ring(num_slots: int = 4, slot_bytes: int = 100, num_readers: int = 1) -> Ring:
        made.append(Ring(tmp_path, num_slots, slot_bytes, num_readers))
        return made[-1]

    yield open_ring
    for ring in made:
        ring.close()


@pytest.mark.parametrize(("num_slots", "slot_bytes"), [(1, 1), (2, 64), (3, 65), (7, 1000)])
def test_messages_keep_their_order_and_bytes_around_many_wraps(make: Make, num_slots: int, slot_bytes: int) -> None:
    ring = make(num_slots, slot_bytes, num_readers=2)
    sent = [bytes([number % 251]) * (number % (slot_bytes + 1)) for number in range(100)]
    taken: list[list[bytes]] = [[], []]
    for number, payload in enumerate(sent):
        ring.send(payload)
        taken[0].append(ring.receive(0))
        if number % num_slots == num_slots - 1:
            taken[1].extend(ring.receive(1) for _ in range(num_slots))
    taken[1].extend(ring.receive(1) for _ in range(100 % num_slots))
    assert taken == [sent, sent]


def test_the_slowest_reader_holds_the_writer_back_and_loses_nothing(make: Make) -> None:
    ring = make(num_slots=3, num_readers=2)
    for number in range(3):
        ring.send(b"%d" % number)
        ring.receive(0)
    with pytest.raises(TransportTimeoutError, match="3 slots full"):
        ring.send(b"too early", timeout_seconds=0.02)
    assert ring.receive(1) == b"0"
    ring.send(b"3")
    assert [ring.receive(1) for _ in range(3)] == [b"1", b"2", b"3"]
    assert ring.receive(0) == b"3"


def test_a_full_ring_wakes_its_writer_when_a_slot_is_free(make: Make) -> None:
    ring = make(num_slots=1)
    ring.send(b"first")
    timer = threading.Timer(0.05, ring.receive)
    timer.start()
    ring.send(b"second")
    timer.join()
    assert ring.receive() == b"second"


def test_an_empty_ring_times_out_near_the_deadline(make: Make) -> None:
    ring = make()

    def seconds_of_a_wait() -> float:
        start = time.monotonic()
        with pytest.raises(TransportTimeoutError):
            ring.receive(timeout_seconds=0.05)
        return time.monotonic() - start

    assert 0.05 <= least(seconds_of_a_wait, 1.0) < 1.0
    with pytest.raises(TransportTimeoutError):
        ring.receive(timeout_seconds=-1.0)


def test_a_second_writer_and_a_second_reader_of_an_index_are_refused(make: Make) -> None:
    ring = make()
    with pytest.raises(TransportError, match="this end of the ring is taken"):
        ChannelWriter(msgspec.structs.replace(ring.handles[0], reader_index=-1))
    with pytest.raises(TransportError, match="this end of the ring is taken"):
        ChannelReader(ring.handles[0])
    ring.send(b"the first writer goes on")
    assert ring.receive() == b"the first writer goes on"


@pytest.mark.parametrize("index", [-2, 1, 2**31 - 1])
def test_a_reader_index_that_the_ring_does_not_have_is_refused(make: Make, index: int) -> None:
    with pytest.raises(TransportError):
        ChannelReader(msgspec.structs.replace(make().handles[0], reader_index=index))


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (2**20, 1, 1), (1, 2**40, 1), (1, 1, 2**20)])
def test_sizes_out_of_range_are_refused(make: Make, sizes: tuple[int, int, int]) -> None:
    with pytest.raises(TransportError, match=f"a ring cannot have {sizes[0]} slots"):
        make(*sizes)


def test_readers_take_what_was_sent_before_the_writer_closed(make: Make) -> None:
    ring = make()
    ring.send(b"last words")
    ring.writer.close()
    assert ring.receive() == b"last words"
    with pytest.raises(TransportClosedError, match="the writer closed the ring"):
        ring.receive()
    with pytest.raises(TransportClosedError, match="on this side"):
        ring.send(b"")


def test_a_reader_that_closed_tells_the_writer(make: Make) -> None:
    ring = make(num_readers=2)
    ring.readers[1].close()
    with pytest.raises(TransportClosedError, match="the reader closed the ring"):
        ring.send(b"")


@pytest.mark.parametrize("wake", ["close", "interrupt", "other side"])
@pytest.mark.parametrize("waits", ["reader", "writer"])
def test_whoever_waits_is_woken_by_either_side(make: Make, waits: str, wake: str) -> None:
    ring = make(num_slots=1)
    here, there = (ring.readers[0], ring.writer) if waits == "reader" else (ring.writer, ring.readers[0])
    if waits == "writer":
        ring.send(b"full")
    act = {"close": here.close, "interrupt": here.interrupt, "other side": there.close}[wake]
    threading.Timer(0.05, act).start()
    with pytest.raises(TransportClosedError):  # and no timeout
        ring.receive(timeout_seconds=30) if waits == "reader" else ring.send(b"", timeout_seconds=30)


def test_an_interrupted_end_stays_interrupted(make: Make) -> None:
    ring = make()
    ring.readers[0].interrupt()
    for _ in range(2):
        with pytest.raises(TransportClosedError):
            ring.receive()
    ring.send(b"the writer does not mind")


def test_a_signal_is_handled_while_the_ring_waits(make: Make) -> None:
    ring = make()
    previous = signal.signal(signal.SIGALRM, lambda *_: ring.send(b"from the handler"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert ring.receive(timeout_seconds=30) == b"from the handler"
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_an_exception_of_a_signal_handler_ends_the_wait(make: Make) -> None:
    ring = make()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, fail)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            ring.receive(timeout_seconds=30)
        ring.send(b"still in order")
        assert ring.receive() == b"still in order"
    finally:
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("position", [1, 5, 2**63, 2**64 - 1])
def test_a_writer_position_that_cannot_be_is_an_error_not_a_crash(make: Make, position: int) -> None:
    ring = make()
    ring.poke(WRITER_POSITION, struct.pack("<Q", position))
    with pytest.raises(TransportError, match="protocol does not allow"):
        ring.receive(timeout_seconds=1)


@pytest.mark.parametrize("position", [3, 2**63, 2**64 - 1])
def test_a_reader_position_that_cannot_be_is_an_error_once_the_ring_is_full(make: Make, position: int) -> None:
    ring = make(num_slots=2)
    ring.send(b"")
    ring.send(b"")
    ring.poke(READERS, struct.pack("<Q", position))
    with pytest.raises(TransportError, match="protocol does not allow"):
        ring.send(b"", timeout_seconds=1)


LIES = [(SLOT_NUMBER, 0), (SLOT_NUMBER, 2), (SLOT_LENGTH, 101), (SLOT_LENGTH, 2**64 - 1)]


@pytest.mark.parametrize(("field", "value"), LIES)
def test_a_slot_that_lies_is_an_error_not_a_crash(make: Make, field: int, value: int) -> None:
    ring = make(slot_bytes=100)
    ring.send(b"x" * 100)
    ring.poke(ring.slots_offset + field, struct.pack("<Q", value))
    with pytest.raises(TransportError, match="protocol does not allow"):
        ring.receive()


def test_the_memory_cannot_be_taken_away_from_under_a_reader(make: Make) -> None:
    ring = make()
    for size in (0, 2**20):
        with pytest.raises(PermissionError):
            os.ftruncate(ring.fd, size)


def test_memory_that_is_no_such_ring_is_refused(make: Make) -> None:
    handle = make(num_slots=4, slot_bytes=64).handles[0]

    def attach(fd: int, num_slots: int) -> None:
        ChannelReader(msgspec.structs.replace(handle, ring=RingGeometry(fd, num_slots, 64, 1)))

    with pytest.raises(TransportError, match="protocol does not allow"):
        attach(handle.ring.fd, 8)  # another size
    plain = os.memfd_create("no seals")
    os.ftruncate(plain, os.fstat(handle.ring.fd).st_size)
    with pytest.raises(TransportError, match="protocol does not allow"):
        attach(plain, 4)
    os.close(plain)
    with pytest.raises(TransportError, match="Bad file descriptor"):
        attach(plain, 4)


def test_the_rings_memory_and_descriptor_go_when_it_is_closed(tmp_path: Path) -> None:
    ring = Ring(tmp_path, 4, 100, 2)
    assert "yeoul-ring" in Path("/proc/self/maps").read_text()
    ring.close()
    assert not any("yeoul-ring" in os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
    assert "yeoul-ring" not in Path("/proc/self/maps").read_text()
