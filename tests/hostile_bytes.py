"""Bytes that nobody honest sends: noise, and valid ones that were cut, overwritten, repeated or given absurd lengths."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hypothesis import strategies as st

ABSURD = [
    *(number.to_bytes(8, "little") for number in (0, 1, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, (1 << 64) - 1)),
    *(bytes([tag]) + b"\xff" * 4 for tag in (0xC6, 0xC9, 0xDB, 0xDD, 0xDF)),  # msgpack: 4 GiB of bytes, text, array, map
    b"\xcb\x7f\xf8" + bytes(6),  # msgpack: NaN
    b"\xcf" + b"\xff" * 8,  # msgpack: 2**64 - 1
    b"\xd3\x80" + bytes(7),  # msgpack: -2**63
    b"[" * 300,
    b"\x91" * 2000,
    b"9" * 400,
    b"\xed\xa0\x80",  # half a surrogate pair
    b"\x00",
    b"\xff\xfe",
]
"""Pieces that decoders have stumbled over: extreme numbers, claims of gigabytes, deep nesting, broken text."""


def damage(source: random.Random, sample: bytes) -> bytes:
    """``sample`` after one to four accidents."""
    raw = bytearray(sample)
    for _ in range(source.randint(1, 4)):
        position = source.randrange(len(raw) + 1)
        kind = source.randrange(5)
        if kind == 0 and raw:
            raw[min(position, len(raw) - 1)] ^= 1 << source.randrange(8)
        elif kind == 1:
            del raw[position:]
        elif kind == 2:
            piece = source.choice(ABSURD)
            raw[position : position + source.choice((0, len(piece)))] = piece
        elif kind == 3:
            raw[position:position] = source.randbytes(source.randint(1, 8))
        else:
            raw += raw[position:]
    return bytes(raw)


def damaged(samples: Sequence[bytes], max_noise_bytes: int = 200) -> st.SearchStrategy[bytes]:
    """A damaged sample, or noise."""

    def changed(sample: bytes, changes: list[tuple[float, int, bytes]], kept: float) -> bytes:
        raw = bytearray(sample)
        for place, num_replaced, piece in changes:
            position = int(place * len(raw))
            raw[position : position + num_replaced] = piece
        return bytes(raw[: round(kept * len(raw))])

    places = st.floats(0, 1, exclude_max=True)
    pieces = st.one_of(st.binary(max_size=9), st.sampled_from(ABSURD))
    changes = st.lists(st.tuples(places, st.integers(0, 9), pieces), max_size=4)
    kept = st.one_of(st.just(1.0), st.floats(0, 1))
    return st.one_of(st.binary(max_size=max_noise_bytes), st.builds(changed, st.sampled_from(list(samples)), changes, kept))


@contextmanager
def little_memory(max_bytes: int = 16 << 20) -> Iterator[None]:
    """Whatever runs inside allocates little, however much the bytes claim to hold."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < max_bytes
    finally:
        tracemalloc.stop()


@contextmanager
def little_time(max_seconds: float = 2.0) -> Iterator[None]:
    """Whatever runs inside computes for less than this, however long the machine lets it wait; a decorator, too."""
    start = time.process_time()
    yield
    assert time.process_time() - start < max_seconds
