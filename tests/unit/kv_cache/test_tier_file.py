"""A block that is read from below is the block that was written, or none: whatever happened to the files in between."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.kv_cache import tier_file
from yeoul.kv_cache.tier_file import (
    ENTRY_BYTES,
    PAGE_BYTES,
    DamagedBlockError,
    TierFile,
    begin_entries,
    entries_bytes_of,
    read_entries,
)

KEY = b"k" * 32
BLOCK_BYTES = 100
NUM_SLOTS = 4


def name_of(number: int) -> bytes:
    return bytes([number + 1]) * 32


def block_of(number: int) -> bytes:
    return bytes((number * 7 + place) % 251 for place in range(BLOCK_BYTES))


class Files:
    """The two files of a rank."""

    def __init__(self, folder) -> None:
        self.paths = [str(folder / "slots"), str(folder / "entries")]
        for path in self.paths:
            open(path, "ab").close()

    def begin(self, key=KEY) -> None:
        fd = os.open(self.paths[1], os.O_RDWR)
        begin_entries(fd, key, BLOCK_BYTES)
        os.close(fd)

    def open(self) -> TierFile:
        slots_path, entries_path = self.paths
        return TierFile.open(slots_path, entries_path, BLOCK_BYTES)

    def entries(self, key=KEY, block_bytes=BLOCK_BYTES, num_slots=NUM_SLOTS):
        fd = os.open(self.paths[1], os.O_RDONLY)
        try:
            return read_entries(fd, key, block_bytes, num_slots)
        finally:
            os.close(fd)

    def write(self, slot: int, number: int, stamp: int) -> None:
        file = self.open()
        file.write(slot, name_of(number), memoryview(block_of(number)), stamp)
        file.close()

    def read(self, slot: int, number: int, stamp: int = 9) -> bytes:
        file, data = self.open(), bytearray(BLOCK_BYTES)
        try:
            file.read(slot, name_of(number), memoryview(data), stamp)
        finally:
            file.close()
        return bytes(data)


@pytest.fixture
def files(tmp_path):
    files = Files(tmp_path)
    files.begin()
    return files


def change(path: str, offset: int, flip: int = 1) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ flip]))


def test_what_is_written_is_read_by_whoever_opens_the_files_next(files):
    files.write(2, 5, stamp=3)
    files.write(0, 6, stamp=4)
    assert files.entries() == [(0, name_of(6), 4), (2, name_of(5), 3)]
    assert files.read(2, 5) == block_of(5)
    assert files.read(0, 6) == block_of(6)


def test_a_read_is_a_use_that_the_next_start_knows_of(files):
    files.write(2, 5, stamp=3)
    files.read(2, 5, stamp=8)
    assert files.entries() == [(2, name_of(5), 8)]


@pytest.mark.parametrize("offset", [0, 57, BLOCK_BYTES - 1])
def test_a_flipped_bit_of_a_block_is_found(files, offset):
    files.write(2, 5, stamp=3)
    change(files.paths[0], 2 * PAGE_BYTES + offset, 16)
    with pytest.raises(DamagedBlockError):
        files.read(2, 5)


@pytest.mark.parametrize("offset", [0, 31, 32, 47])
def test_a_flipped_bit_of_an_entry_is_found(files, offset):
    files.write(2, 5, stamp=3)
    change(files.paths[1], 3 * ENTRY_BYTES + offset)
    with pytest.raises(DamagedBlockError):
        files.read(2, 5)


@pytest.mark.parametrize("which", [0, 1])
def test_a_truncated_file_is_found(files, which):
    files.write(2, 5, stamp=3)
    os.truncate(files.paths[which], os.path.getsize(files.paths[which]) - 70)
    with pytest.raises(DamagedBlockError):
        files.read(2, 5)


def test_a_block_is_not_read_under_another_name(files):
    files.write(2, 5, stamp=3)
    with pytest.raises(DamagedBlockError):
        files.read(2, 6)
    assert files.read(2, 5) == block_of(5)


def test_an_emptied_slot_is_not_found_by_the_next_start(files):
    files.write(2, 5, stamp=3)
    file = files.open()
    file.empty(2)
    file.close()
    assert files.entries() == []
    with pytest.raises(DamagedBlockError):
        files.read(2, 5)


def test_files_of_another_key_form_or_version_are_empty(files, monkeypatch):
    files.write(2, 5, stamp=3)
    assert files.entries(key=b"K" * 32) == []
    assert files.entries(block_bytes=BLOCK_BYTES + 1) == []
    assert files.entries(num_slots=2) == []
    monkeypatch.setattr(tier_file, "_MAGIC", b"yeoul kv tier 2\0")
    assert files.entries() == []


def test_an_absurd_stamp_makes_no_block_the_youngest_for_ever(files):
    files.write(2, 5, stamp=2**63)
    assert files.entries() == [(2, name_of(5), 0)]


writes = st.tuples(st.integers(0, NUM_SLOTS - 1), st.integers(0, 7))


@given(
    st.lists(st.one_of(writes, st.integers(0, NUM_SLOTS - 1)), max_size=8),
    st.data(),
)
def test_a_crash_at_any_point_leaves_nothing_that_is_wrong(tmp_path_factory, moves, data):
    """Of all that was written to either file any part has arrived, in any order: as after a power cut."""
    files = Files(tmp_path_factory.mktemp("tier"))
    written: list[tuple[int, bytes, int]] = []

    def record(fd, chunk, offset):
        written.append((fd, bytes(chunk), offset))

    file = TierFile(0, 1, BLOCK_BYTES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tier_file, "_write_all", record)
        for stamp, move in enumerate(moves):
            if isinstance(move, int):
                file.empty(move)
            else:
                file.write(move[0], name_of(move[1]), memoryview(block_of(move[1])), stamp)
    is_ordered = data.draw(st.booleans())
    if is_ordered:
        arrived = written[: data.draw(st.integers(0, len(written)))]
    else:
        arrived = [one for one in written if data.draw(st.booleans())]
        arrived = data.draw(st.permutations(arrived))
    files.begin()
    for index, (fd, chunk, offset) in enumerate(arrived):
        torn = len(chunk) if index < len(arrived) - 1 else data.draw(st.integers(0, len(chunk)))
        with open(files.paths[fd], "r+b") as stream:
            stream.seek(offset)
            stream.write(chunk[:torn])
    for slot, name, _ in files.entries():
        try:
            found = files.read(slot, name[0] - 1)
        except DamagedBlockError:
            assert not is_ordered or arrived[-1][0] == 1, "a kill between two writes damages nothing"
            continue
        assert found == block_of(name[0] - 1)


def test_files_of_entries_are_as_long_as_they_say(files):
    for slot in range(NUM_SLOTS):
        files.write(slot, slot, stamp=slot)
    assert os.path.getsize(files.paths[1]) == entries_bytes_of(NUM_SLOTS)
