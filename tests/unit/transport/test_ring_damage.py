"""Shared memory in which the other side has written anything at all: each call ends soon, in a message or in a clear error.

``make sanitize`` runs this too, so that a read outside of the memory would end the test.
"""

from __future__ import annotations

import contextlib
import mmap
import random
import struct
import tempfile
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.patience import least
from yeoul.errors import TransportError
from yeoul.transport.channel import ChannelReader, open_broadcast

NUM_SLOTS, SLOT_BYTES, NUM_READERS = 3, 100, 2
LIMIT_SECONDS = 0.01
PATIENCE_SECONDS = 2.0  # of all calls together, three of which wait for LIMIT_SECONDS

NUMBERS = [0, 1, 2, 3, 4, 99, 100, 101, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63, (1 << 64) - 1]
HEADER_BYTES = 192 + 64 * NUM_READERS
"""As ring_atomics.c lays it out; the slots follow, each with a number, a length and a kind before its payload."""


class Ends:
    """A ring that has seen some honest traffic, and its memory as a hostile peer sees it."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.writer, handles = open_broadcast(self.folder.name, NUM_READERS, num_slots=NUM_SLOTS, slot_bytes=SLOT_BYTES)
        self.readers = [ChannelReader(handle) for handle in handles]
        self.memory = mmap.mmap(handles[0].ring.fd, 0)
        for number in range(4):
            self.writer.send(b"honest %d" % number, 1)
            for reader in self.readers:
                reader.receive(1)
        self.writer.send(b"waits", 1)

    def close(self) -> None:
        for end in (self.writer, *self.readers):
            end.close()
        self.memory.close()
        self.folder.cleanup()


@contextlib.contextmanager
def damaged(changes: list[tuple[int, bytes]]) -> Iterator[Ends]:
    ends = Ends()
    try:
        for position, piece in changes:
            end = min(position + len(piece), len(ends.memory))
            ends.memory[position:end] = piece[: end - position]
        yield ends
    finally:
        ends.close()


def seconds_of_use(changes: list[tuple[int, bytes]]) -> float:
    """How long both sides take for what they would do next; payloads are never longer than a slot."""
    with damaged(changes) as ends:
        start = time.monotonic()
        for reader in ends.readers:
            with contextlib.suppress(TransportError):
                for _ in range(NUM_SLOTS + 1):
                    assert len(reader.receive(LIMIT_SECONDS)) <= SLOT_BYTES
        with contextlib.suppress(TransportError):
            publish_until_full(ends)
        return time.monotonic() - start


def publish_until_full(ends: Ends) -> None:
    for _ in range(NUM_SLOTS + 1):
        ends.writer.send(b"x" * SLOT_BYTES, LIMIT_SECONDS)


changes = st.lists(
    st.tuples(
        st.integers(0, (HEADER_BYTES + 2 * 192) // 4 - 1).map(lambda word: 4 * word),
        st.one_of(st.binary(min_size=1, max_size=16), st.sampled_from(NUMBERS).map(lambda number: struct.pack("<Q", number))),
    ),
    min_size=1,
    max_size=6,
)


@given(changes)
@settings(max_examples=80)
def test_lies_in_the_ring_are_errors_or_messages_and_never_crashes(changes):
    assert least(lambda: seconds_of_use(changes), PATIENCE_SECONDS) < PATIENCE_SECONDS


@pytest.mark.parametrize("seed", range(20))
def test_a_ring_full_of_noise_is_an_error_not_a_crash(seed):
    noise = random.Random(seed).randbytes(HEADER_BYTES + NUM_SLOTS * 192)
    with damaged([(0, noise)]) as ends:
        for reader in ends.readers:
            with pytest.raises(TransportError):
                reader.receive(LIMIT_SECONDS)
        with pytest.raises(TransportError):
            publish_until_full(ends)


@pytest.mark.parametrize("value", [0, 0xFF])
def test_a_ring_wiped_or_filled_is_an_error_not_a_crash(value):
    changes = [(0, bytes([value]) * 10_000)]
    assert least(lambda: seconds_of_use(changes), PATIENCE_SECONDS) < PATIENCE_SECONDS
    with damaged(changes) as ends, pytest.raises(TransportError):
        ends.readers[0].receive(LIMIT_SECONDS)


def test_noise_that_comes_while_a_reader_sleeps_is_seen_when_its_wait_ends():
    with damaged([]) as ends:
        reader = ends.readers[0]
        reader.receive(1)
        ends.memory[0:8] = struct.pack("<Q", 1 << 40)  # and nobody is woken
        with pytest.raises(TransportError):
            reader.receive(LIMIT_SECONDS)


@given(st.binary(max_size=64), st.integers(0, HEADER_BYTES // 8 - 1).map(lambda word: 8 * word))
@settings(max_examples=50)
def test_a_header_of_anything_is_attached_to_or_refused(piece, position):
    with tempfile.TemporaryDirectory() as folder:
        writer, handles = open_broadcast(folder, NUM_READERS, num_slots=NUM_SLOTS, slot_bytes=SLOT_BYTES)
        with mmap.mmap(handles[0].ring.fd, 0) as memory:
            memory[position : position + len(piece)] = piece
        for handle in handles:
            with contextlib.suppress(TransportError):
                ChannelReader(handle).close()
        writer.close()
