"""A packed file in which anything stands, under a checksum that is right: it is opened or refused, and nothing else."""

from __future__ import annotations

import contextlib
import struct
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_bytes import ABSURD, damaged, little_memory, little_time
from tests.unit.model_files.packed_samples import KEY
from yeoul.errors import ModelFileError
from yeoul.model_files.packed_file import (
    MAGIC,
    PAGE_BYTES,
    PackedFile,
    PackedFileWriter,
    StoredWeight,
    read_packed_header,
)

VECTOR = bytes(range(100))


def whole_file(folder: str) -> bytes:
    path = Path(folder) / "whole"
    with path.open("wb") as stream:
        writer = PackedFileWriter(stream)
        array = writer.put("uint8", [100], np.frombuffer(VECTOR, np.uint8))
        writer.weights["vector"] = StoredWeight([array, None], [4])
        writer.finish("tiny", KEY)
    return path.read_bytes()


with tempfile.TemporaryDirectory() as _folder:
    WHOLE = whole_file(_folder)
HEADER = WHOLE[PAGE_BYTES + 100 :]


def signed(header: bytes, data: bytes) -> bytes:
    """A file whose header is what its checksum says, whatever it says."""
    prefix = struct.pack("<8sQ16s", MAGIC, PAGE_BYTES + len(data), xxhash.xxh3_128_digest(header))
    return prefix + bytes(-len(prefix) % PAGE_BYTES) + data + header


def open_and_read(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "damaged")
        Path(path).write_bytes(raw)
        with contextlib.suppress(ModelFileError):
            read_packed_header(path)
        with contextlib.suppress(ModelFileError):
            if (file := PackedFile.open(path, KEY)) is not None:
                for array in [array for weight in file.weights.values() for array in weight.arrays if array is not None]:
                    assert file.data(array).nbytes == array.num_bytes


def test_the_whole_file_is_read():
    open_and_read(WHOLE)
    assert signed(HEADER, VECTOR) == WHOLE


@given(damaged([WHOLE]))
@settings(max_examples=100)
@little_time(2)
def test_a_damaged_file_is_refused(raw):
    open_and_read(raw)


@given(damaged([HEADER]), st.one_of(st.just(VECTOR), st.binary(max_size=200)))
@settings(max_examples=200)
@little_time(2)
def test_a_header_of_anything_is_refused_or_read(header, data):
    open_and_read(signed(header, data))


numbers = st.one_of(st.integers(-200, 200), st.sampled_from([-(1 << 63), (1 << 63) - 1, (1 << 64) - 1, 1 << 40]))


@given(numbers, numbers, numbers, st.lists(numbers, max_size=3), st.text(max_size=6))
@settings(max_examples=200)
@little_time(2)
def test_places_and_sizes_of_anything_are_refused_or_read(end, offset, num_bytes, shape, type_name):
    fields = msgspec.msgpack.decode(HEADER)
    fields["weights"] = {"vector": [[[type_name, shape, offset, num_bytes]], []]}
    whole = signed(msgspec.msgpack.encode(fields), VECTOR)
    open_and_read(whole)
    open_and_read(whole[:8] + struct.pack("<Q", end % (1 << 64)) + whole[16:])


def test_a_length_that_nobody_could_write_costs_no_memory():
    with little_memory():
        for piece in ABSURD:
            open_and_read(WHOLE[:8] + piece[:8].ljust(8, b"\xff") + WHOLE[16:])
            open_and_read(signed(HEADER[:20] + piece + HEADER[20:], VECTOR))
