"""A packed file in which anything stands, under a checksum that is right: it is opened or refused, and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import tempfile
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_bytes import ABSURD, damaged, little_memory
from tests.unit.model_files.packed_samples import KEY
from yeoul.errors import ModelFileError
from yeoul.model_files.packed_file import (
    MAGIC,
    PAGE_BYTES,
    PackedFile,
    PackedHeader,
    StoredArray,
    StoredWeight,
    read_packed_header,
    write_packed_file,
)

VECTOR = bytes(range(100))


def whole_file(folder: str) -> bytes:
    array = StoredArray("uint8", [100], 0, 100)
    header = PackedHeader(model="tiny", key=KEY, weights={"vector": StoredWeight([array, None], [4])}, num_data_bytes=100)
    path = str(Path(folder) / "whole")
    write_packed_file(path, header, [(array, memoryview(VECTOR))])
    return Path(path).read_bytes()


with tempfile.TemporaryDirectory() as _folder:
    WHOLE = whole_file(_folder)
(HEADER_BYTES,) = struct.unpack_from("<Q", WHOLE, 8)
HEADER = WHOLE[48 : 48 + HEADER_BYTES]


def signed(header: bytes, data: bytes) -> bytes:
    """A file whose header is what its checksum says, whatever it says."""
    prefix = struct.pack("<8sQ32s", MAGIC, len(header), hashlib.sha256(header).digest())
    head = prefix + header
    return head + bytes(-len(head) % PAGE_BYTES) + data


def open_and_read(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "damaged")
        Path(path).write_bytes(raw)
        with contextlib.suppress(ModelFileError):
            read_packed_header(path)
        with contextlib.suppress(ModelFileError):
            file = PackedFile.open(path)
            for weight in file.header.weights.values():
                for array in weight.arrays:
                    if array is not None:
                        assert file.data(array).nbytes == array.num_bytes


def test_the_whole_file_is_read():
    open_and_read(WHOLE)
    open_and_read(signed(HEADER, WHOLE[PAGE_BYTES:]))


@given(damaged([WHOLE]))
@settings(max_examples=100, deadline=2000)
def test_a_damaged_file_is_refused(raw):
    open_and_read(raw)


@given(damaged([HEADER]), st.one_of(st.just(VECTOR), st.binary(max_size=200)))
@settings(max_examples=200, deadline=2000)
def test_a_header_of_anything_is_refused_or_read(header, data):
    open_and_read(signed(header, data))


numbers = st.one_of(st.integers(-200, 200), st.sampled_from([-(1 << 63), (1 << 63) - 1, (1 << 64) - 1, 1 << 40]))


@given(numbers, numbers, numbers, st.lists(numbers, max_size=3), st.text(max_size=6))
@settings(max_examples=200, deadline=2000)
def test_places_and_sizes_of_anything_are_refused_or_read(num_data_bytes, offset, num_bytes, shape, type_name):
    fields = msgspec.msgpack.decode(HEADER)
    fields["num_data_bytes"] = num_data_bytes
    fields["weights"] = {"vector": [[[type_name, shape, offset, num_bytes]], []]}
    for data in (VECTOR, VECTOR[: max(0, min(num_data_bytes, 100))]):
        open_and_read(signed(msgspec.msgpack.encode(fields), data))


def test_a_length_that_nobody_could_write_costs_no_memory():
    with little_memory():
        for piece in ABSURD:
            open_and_read(WHOLE[:8] + piece[:8].ljust(8, b"\xff") + WHOLE[16:])
            open_and_read(signed(HEADER[:20] + piece + HEADER[20:], VECTOR))
