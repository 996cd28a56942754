"""A packed file comes back as it was written, or not at all."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import msgspec
import pytest

from tests.unit.model_files.packed_samples import KEY, sample
from yeoul.errors import ModelFileError
from yeoul.model_files.packed_file import MAGIC, PAGE_BYTES, PackedFile, read_packed_header, write_packed_file


@pytest.fixture
def path(tmp_path):
    name = str(tmp_path / "tiny.packed")
    write_packed_file(name, *sample())
    return name


def flip(path, position, bit=1):
    with open(path, "r+b") as file:
        file.seek(position)
        old = file.read(1)[0]
        file.seek(position)
        file.write(bytes([old ^ bit]))


def test_what_was_written_comes_back_bit_for_bit(path):
    header, contents = sample()
    file = PackedFile.open(path)
    assert file.header == msgspec.structs.replace(header, checksum=file.header.checksum)
    assert file.header.key == KEY
    for array, content in contents:
        assert file.data(array).tobytes() == content.tobytes()


def test_arrays_begin_where_kernels_like_them(path):
    file = PackedFile.open(path)
    for weight in file.header.weights.values():
        assert all(file.data(array).ctypes.data % 64 == 0 for array in weight.arrays if array is not None)


def test_nobody_can_change_the_file_through_its_map(path):
    before = Path(path).read_bytes()
    file = PackedFile.open(path)
    file.data(sample()[1][0][0])[:] = 0
    assert Path(path).read_bytes() == before


def test_a_file_without_arrays_is_a_file(tmp_path):
    header, _ = sample()
    write_packed_file(str(tmp_path / "none"), msgspec.structs.replace(header, weights={}, num_data_bytes=0), [])
    assert PackedFile.open(str(tmp_path / "none")).header.weights == {}


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        PackedFile.open(str(tmp_path / "none"))


@pytest.mark.parametrize("keep", [0, 1, 47, 48, 100, PAGE_BYTES, PAGE_BYTES + 5, -1])
def test_a_file_that_was_cut_off_is_refused(path, keep):
    size = os.path.getsize(path)
    os.truncate(path, keep if keep >= 0 else size + keep)
    with pytest.raises(ModelFileError, match="are damaged"):
        PackedFile.open(path)


def test_a_file_that_has_grown_is_refused(path):
    with open(path, "ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelFileError, match=r"expected \d+ bytes, it has"):
        PackedFile.open(path)


@pytest.mark.parametrize("position", [0, 7, 8, 15, 16, 47, 48, 60, 150, 250])
def test_a_flipped_bit_in_front_of_the_arrays_is_seen(path, position):
    flip(path, position)
    with pytest.raises(ModelFileError, match="are damaged"):
        read_packed_header(path)


@pytest.mark.parametrize("place", [0, 1, 4097, 1 << 20, (1 << 20) + 776, -1, -100])
@pytest.mark.parametrize("bit", [1, 128])
def test_a_flipped_bit_in_the_arrays_is_seen(path, place, bit):
    size = os.path.getsize(path)
    flip(path, PAGE_BYTES + place if place >= 0 else size + place, bit)
    with pytest.raises(ModelFileError, match="not what was written"):
        PackedFile.open(path)


def test_a_page_that_never_reached_the_disk_is_seen(path):
    with open(path, "r+b") as file:
        file.seek(3 * PAGE_BYTES)
        file.write(bytes(PAGE_BYTES))
    with pytest.raises(ModelFileError, match="not what was written"):
        PackedFile.open(path)


def test_two_pages_that_changed_places_are_seen(path):
    with open(path, "r+b") as file:
        file.seek(2 * PAGE_BYTES)
        first, second = file.read(PAGE_BYTES), file.read(PAGE_BYTES)
        file.seek(2 * PAGE_BYTES)
        file.write(second + first)
    with pytest.raises(ModelFileError, match="not what was written"):
        PackedFile.open(path)


def test_two_flipped_bits_that_a_plain_sum_would_not_see_are_seen(path):
    matrix = sample()[1][0][1]
    # The same bit of two words, once set and once not: their sum stays the same.
    first = next(i for i in range(0, 1 << 16, 8) if matrix[i] & 1)
    second = next(i for i in range(first + 8, 1 << 16, 8) if not matrix[i] & 1)
    flip(path, PAGE_BYTES + first)
    flip(path, PAGE_BYTES + second)
    with pytest.raises(ModelFileError, match="not what was written"):
        PackedFile.open(path)


def test_another_kind_of_file_is_refused(tmp_path):
    for name, content in [("gguf", b"GGUF" + bytes(5000)), ("text", b"hello"), ("zeros", bytes(9000))]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFileError, match="does not begin"):
            PackedFile.open(str(tmp_path / name))


def test_a_header_that_claims_to_be_huge_takes_no_memory(path):
    with open(path, "r+b") as file:
        file.write(MAGIC + struct.pack("<Q", 1 << 60))
    with pytest.raises(ModelFileError, match="claims a header"):
        PackedFile.open(path)


def test_a_disk_that_gives_less_than_the_file_has_is_an_error_and_no_signal(path, monkeypatch):
    monkeypatch.setattr("yeoul.model_files.packed_file.os.preadv", lambda *_: 0)
    with pytest.raises(ModelFileError, match="not what was written"):
        PackedFile.open(path)
