"""Shared memory in which the other side has written anything at all: each call ends soon, in a message or in a clear error.

``make sanitize`` runs this too, so that a read outside of the memory would end the test.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yeoul.errors import TransportError
from yeoul.transport.ring import RingGeometry, RingReader, RingWriter, create_ring

NUM_SLOTS, SLOT_BYTES, NUM_READERS = 3, 100, 2
LIMIT_SECONDS = 0.01
PATIENCE_SECONDS = 2.0  # of a call whose deadline is LIMIT_SECONDS away, on a machine that has other work

NUMBERS = [0, 1, 2, 3, 4, 99, 100, 101, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63, (1 << 64) - 1]
HEADER_BYTES = 256 + 64 * NUM_READERS
"""As ring_atomics.c lays it out; the slots follow, each with a number, a length and a kind before its payload."""


class Ends:
    """A ring that has seen some honest traffic, and its memory as a hostile peer sees it."""

    def __init__(self) -> None:
        self.geometry: RingGeometry = create_ring(NUM_SLOTS, SLOT_BYTES, NUM_READERS)
        self.writer = RingWriter(self.geometry)
        self.readers = [RingReader(self.geometry, index) for index in range(NUM_READERS)]
        self.memory = mmap.mmap(self.geometry.fd, os.fstat(self.geometry.fd).st_size)
        for number in range(4):
            self.writer.publish(b"honest %d" % number, 0, time.monotonic() + 1)
            for reader in self.readers:
                reader.peek(time.monotonic() + 1)
                reader.release()
        self.writer.publish(b"waits", 0, time.monotonic() + 1)

    def close(self) -> None:
        for end in (self.writer, *self.readers):
            end.close()
        self.memory.close()
        os.close(self.geometry.fd)


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


def use(ends: Ends) -> None:
    """What both sides would do next; payloads are never longer than a slot."""
    for reader in ends.readers:
        with contextlib.suppress(TransportError):
            for _ in range(NUM_SLOTS + 1):
                start = time.monotonic()
                _, kind, payload = reader.peek(start + LIMIT_SECONDS)
                assert len(payload) <= SLOT_BYTES
                assert 0 <= kind < 1 << 32
                reader.release()
        assert time.monotonic() - start < PATIENCE_SECONDS
    start = time.monotonic()
    with contextlib.suppress(TransportError):
        publish_until_full(ends)
    assert time.monotonic() - start < PATIENCE_SECONDS


def publish_until_full(ends: Ends) -> None:
    for _ in range(NUM_SLOTS + 1):
        ends.writer.publish(b"x" * SLOT_BYTES, 1, time.monotonic() + LIMIT_SECONDS)


changes = st.lists(
    st.tuples(
        st.integers(0, (HEADER_BYTES + 2 * 192) // 4 - 1).map(lambda word: 4 * word),
        st.one_of(st.binary(min_size=1, max_size=16), st.sampled_from(NUMBERS).map(lambda number: struct.pack("<Q", number))),
    ),
    min_size=1,
    max_size=6,
)


@given(changes)
@settings(max_examples=80, deadline=None)
def test_lies_in_the_ring_are_errors_or_messages_and_never_crashes(changes):
    with damaged(changes) as ends:
        use(ends)


@pytest.mark.parametrize("seed", range(20))
def test_a_ring_full_of_noise_is_an_error_not_a_crash(seed):
    noise = random.Random(seed).randbytes(HEADER_BYTES + NUM_SLOTS * 192)
    with damaged([(0, noise)]) as ends:
        for reader in ends.readers:
            with pytest.raises(TransportError):
                reader.peek(time.monotonic() + LIMIT_SECONDS)
        with pytest.raises(TransportError):
            publish_until_full(ends)


@pytest.mark.parametrize("value", [0, 0xFF])
def test_a_ring_wiped_or_filled_is_an_error_not_a_crash(value):
    with damaged([(0, bytes([value]) * 10_000)]) as ends:
        use(ends)
        with pytest.raises(TransportError):
            ends.readers[0].peek(time.monotonic() + LIMIT_SECONDS)


def test_noise_that_comes_while_a_reader_sleeps_is_seen_when_its_wait_ends():
    with damaged([]) as ends:
        reader = ends.readers[0]
        reader.peek(time.monotonic() + 1)
        reader.release()
        ends.memory[64:72] = struct.pack("<Q", 1 << 40)  # and nobody is woken
        with pytest.raises(TransportError):
            reader.peek(time.monotonic() + LIMIT_SECONDS)


@given(st.binary(max_size=64), st.integers(0, HEADER_BYTES // 8 - 1).map(lambda word: 8 * word))
@settings(max_examples=50, deadline=None)
def test_a_header_of_anything_is_attached_to_or_refused(piece, position):
    geometry = create_ring(NUM_SLOTS, SLOT_BYTES, NUM_READERS)
    try:
        with mmap.mmap(geometry.fd, os.fstat(geometry.fd).st_size) as memory:
            memory[position : position + len(piece)] = piece
        with contextlib.suppress(TransportError):
            RingReader(geometry, 0).close()
        with contextlib.suppress(TransportError):
            RingWriter(geometry).close()
    finally:
        os.close(geometry.fd)
