"""A packed file comes back as it was written, or not at all."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.unit.model_files.packed_samples import KEY, contents, opened, write_file
from yeoul.errors import ModelFileError
from yeoul.model_files.packed_file import MAGIC, PAGE_BYTES, PackedFile, PackedFileWriter, StoredWeight, read_packed_header


@pytest.fixture
def path(tmp_path):
    name = str(tmp_path / "tiny.packed")
    write_file(name)
    return name


def flip(path, position, bit=1):
    with open(path, "r+b") as file:
        file.seek(position)
        old = file.read(1)[0]
        file.seek(position)
        file.write(bytes([old ^ bit]))


def test_what_was_written_comes_back_bit_for_bit(path):
    header, file = read_packed_header(path), opened(path)
    assert (header.model, header.key) == ("tiny", KEY)
    for name, content in contents().items():
        array = file.weights[name].arrays[0]
        assert array is not None
        assert file.data(array).tobytes() == content.tobytes()


def test_arrays_of_any_size_come_back(tmp_path):
    generator = np.random.default_rng(2)
    put = [generator.integers(0, 256, size, dtype=np.uint8) for size in (1, 0, 63, 64, 65, 5000, 4096, 100_000, 3)]
    with (tmp_path / "file").open("wb") as stream:
        writer = PackedFileWriter(stream)
        arrays = [writer.put("uint8", [len(content)], content) for content in put]
        writer.weights["all"] = StoredWeight(list(arrays))
        writer.finish("tiny", KEY)
    file = opened(tmp_path / "file")
    for array, expected in zip(arrays, put, strict=True):
        assert file.data(array).tobytes() == expected.tobytes()


def test_arrays_begin_where_kernels_like_them(path):
    file = opened(path)
    for weight in file.weights.values():
        assert all(file.data(array).ctypes.data % 64 == 0 for array in weight.arrays if array is not None)


def test_nobody_can_change_the_file_through_its_map(path):
    before = Path(path).read_bytes()
    file = opened(path)
    array = file.weights["matrix"].arrays[0]
    assert array is not None
    file.data(array)[:] = 0
    assert Path(path).read_bytes() == before


def test_a_file_without_arrays_is_a_file(tmp_path):
    with (tmp_path / "none").open("wb") as stream:
        PackedFileWriter(stream).finish("tiny", KEY)
    assert opened(tmp_path / "none").weights == {}


def test_a_file_of_another_key_is_none(path):
    assert PackedFile.open(path, msgspec.structs.replace(KEY, packing="another")) is None


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        opened(tmp_path / "none")


@pytest.mark.parametrize("keep", [0, 1, 31, 32, 100, PAGE_BYTES, PAGE_BYTES + 5, -1, -300])
def test_a_file_that_was_cut_off_is_refused(path, keep):
    size = os.path.getsize(path)
    os.truncate(path, keep if keep >= 0 else size + keep)
    with pytest.raises(ModelFileError, match="are damaged"):
        opened(path)


def test_a_file_that_has_grown_is_refused(path):
    with open(path, "ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelFileError, match="its header is not what was written"):
        opened(path)


@pytest.mark.parametrize("position", [0, 7, 8, 15, 16, 31, -1, -2, -60, -150, -250])
def test_a_flipped_bit_in_the_header_or_what_says_where_it_is_is_seen(path, position):
    flip(path, position if position >= 0 else os.path.getsize(path) + position)
    with pytest.raises(ModelFileError, match="are damaged"):
        read_packed_header(path)


@pytest.mark.parametrize("place", [0, 1, 4097, 1 << 20, (1 << 20) + 776, (1 << 20) + 777, (1 << 20) + 900])
@pytest.mark.parametrize("bit", [1, 128])
def test_a_flipped_bit_in_the_arrays_or_between_them_is_seen(path, place, bit):
    flip(path, PAGE_BYTES + place, bit)
    with pytest.raises(ModelFileError, match="not what was written"):
        opened(path)


def test_a_page_that_never_reached_the_disk_is_seen(path):
    with open(path, "r+b") as file:
        file.seek(3 * PAGE_BYTES)
        file.write(bytes(PAGE_BYTES))
    with pytest.raises(ModelFileError, match="not what was written"):
        opened(path)


def test_two_pages_that_changed_places_are_seen(path):
    with open(path, "r+b") as file:
        file.seek(2 * PAGE_BYTES)
        first, second = file.read(PAGE_BYTES), file.read(PAGE_BYTES)
        file.seek(2 * PAGE_BYTES)
        file.write(second + first)
    with pytest.raises(ModelFileError, match="not what was written"):
        opened(path)


def test_two_flipped_bits_that_a_plain_sum_would_not_see_are_seen(path):
    matrix = contents()["matrix"]
    # The same bit of two words, once set and once not: their sum stays the same.
    first = next(i for i in range(0, 1 << 16, 8) if matrix[i] & 1)
    second = next(i for i in range(first + 8, 1 << 16, 8) if not matrix[i] & 1)
    flip(path, PAGE_BYTES + first)
    flip(path, PAGE_BYTES + second)
    with pytest.raises(ModelFileError, match="not what was written"):
        opened(path)


def test_another_kind_of_file_is_refused(tmp_path):
    for name, content in [("gguf", b"GGUF" + bytes(5000)), ("text", b"hello"), ("zeros", bytes(9000))]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFileError, match="does not begin"):
            opened(tmp_path / name)


def test_a_header_that_claims_to_be_huge_takes_no_memory(path):
    with open(path, "r+b") as file:
        file.write(MAGIC + struct.pack("<Q", PAGE_BYTES))
    os.truncate(path, 1 << 40)
    with pytest.raises(ModelFileError, match="4096 of them before its header"):
        opened(path)


def test_a_disk_that_gives_less_than_the_file_has_is_an_error_and_no_signal(path, monkeypatch):
    monkeypatch.setattr("yeoul.model_files.packed_file.os.preadv", lambda *_: 0)
    with pytest.raises(ModelFileError, match="not what was written"):
        opened(path)
