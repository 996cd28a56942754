"""What other engines keep is found as long as it is there, and never anything else; nobody waits for a disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from yeoul.kv_cache.tier_file import TierFile, TierStem, begin_entries
from yeoul.kv_cache.tier_neighbours import TierNeighbours
from yeoul.messages.steps import NEIGHBOUR_SLOTS

KEY, BLOCK_BYTES = b"k" * 32, 64


def name_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


class Neighbour:
    """The files of another engine."""

    def __init__(self, folder: Path, number: int = 0, key: bytes = KEY) -> None:
        self.stem = TierStem(str(folder / f"part.{number}"), 1)
        for path in (self.stem.slots_path(0), self.stem.entries_path(0)):
            Path(path).touch()
        fd = os.open(self.stem.entries_path(0), os.O_RDWR)
        begin_entries(fd, key, BLOCK_BYTES)
        os.close(fd)
        self.file = TierFile.open(self.stem.slots_path(0), self.stem.entries_path(0), BLOCK_BYTES)

    def keep(self, slot: int, number: int, stamp: int = 1) -> None:
        self.file.write(slot, name_of(number), memoryview(bytes([number % 256]) * BLOCK_BYTES), stamp)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def other(tmp_path):
    return Neighbour(tmp_path)


def looking_at(*stems: TierStem) -> TierNeighbours:
    return TierNeighbours(stems, KEY, BLOCK_BYTES, Clock())


def found(neighbours: TierNeighbours, number: int) -> int | None:
    neighbours.look(at_once=True)
    return neighbours.find(name_of(number))


def test_what_another_engine_keeps_is_found_and_no_longer_when_something_else_is_in_its_slot(other):
    neighbours = looking_at(other.stem)
    assert found(neighbours, 7) is None
    other.keep(100, 7)
    other.keep(3, 8)
    assert found(neighbours, 7) == NEIGHBOUR_SLOTS + 100
    assert found(neighbours, 8) == NEIGHBOUR_SLOTS + 3
    other.keep(100, 9)
    assert found(neighbours, 7) is None
    assert found(neighbours, 9) == NEIGHBOUR_SLOTS + 100
    other.file.empty(100)
    assert found(neighbours, 9) is None


@pytest.mark.parametrize("slots", [(1, 300), (300, 1)])
def test_a_block_that_goes_to_another_slot_is_found_there(other, slots):
    neighbours = looking_at(other.stem)
    other.keep(slots[0], 7)
    assert found(neighbours, 7) == NEIGHBOUR_SLOTS + slots[0]
    other.file.empty(slots[0])
    other.keep(slots[1], 7)
    assert found(neighbours, 7) == NEIGHBOUR_SLOTS + slots[1]


def test_files_that_come_later_are_read_and_those_of_another_key_are_not(tmp_path):
    first, second = (TierStem(str(tmp_path / f"part.{number}"), 1) for number in range(2))
    neighbours = looking_at(first, second)
    assert found(neighbours, 7) is None
    Neighbour(tmp_path, 0, b"x" * 32).keep(0, 7)
    assert found(neighbours, 7) is None
    Neighbour(tmp_path, 1).keep(5, 7)
    assert found(neighbours, 7) == 2 * NEIGHBOUR_SLOTS + 5


def test_files_that_begin_anew_or_are_removed_hold_nothing(other, tmp_path):
    neighbours = looking_at(other.stem)
    other.keep(4, 7)
    assert found(neighbours, 7)
    Neighbour(tmp_path)
    assert found(neighbours, 7) is None
    other.keep(4, 7)
    assert found(neighbours, 7)
    os.unlink(other.stem.entries_path(0))
    assert found(neighbours, 7) is None
    Neighbour(tmp_path).keep(6, 7)
    assert found(neighbours, 7) == NEIGHBOUR_SLOTS + 6


@pytest.mark.parametrize("doubt", [lambda all_: all_.doubt([name_of(7)]), TierNeighbours.doubt_all])
def test_what_is_in_doubt_is_not_found_before_it_is_written_again(other, doubt):
    neighbours = looking_at(other.stem)
    other.keep(4, 7)  # nobody has looked yet
    doubt(neighbours)
    assert found(neighbours, 7) is None
    other.keep(5, 8)
    assert found(neighbours, 7) is None
    other.keep(4, 7, stamp=2)
    assert found(neighbours, 7) == NEIGHBOUR_SLOTS + 4


def test_what_was_not_where_it_was_read_is_found_there_once_it_is_written_again_and_elsewhere_at_once(other, tmp_path):
    second = Neighbour(tmp_path, 1)
    neighbours = looking_at(other.stem, second.stem)
    other.keep(4, 7)
    second.keep(5, 7)
    assert found(neighbours, 7) == NEIGHBOUR_SLOTS + 4
    neighbours.note_gone(NEIGHBOUR_SLOTS + 4, name_of(7))
    assert found(neighbours, 7) == 2 * NEIGHBOUR_SLOTS + 5
    neighbours.note_gone(NEIGHBOUR_SLOTS + 4, name_of(7))
    assert found(neighbours, 7) == 2 * NEIGHBOUR_SLOTS + 5
    other.keep(4, 7, stamp=2)
    assert found(neighbours, 7) == NEIGHBOUR_SLOTS + 4


def test_nobody_looks_again_at_once(other):
    clock = Clock()
    neighbours = TierNeighbours([other.stem], KEY, BLOCK_BYTES, clock)
    neighbours.look()
    other.keep(4, 7)
    neighbours.look()
    assert neighbours.find(name_of(7)) is None
    clock.now += 1.0
    neighbours.look()
    assert neighbours.find(name_of(7))


def test_what_the_kernel_would_have_to_read_from_the_disk_stays_as_it_was_seen(other, monkeypatch):
    neighbours = looking_at(other.stem)
    other.keep(4, 7)
    assert found(neighbours, 7)
    other.keep(200, 8)
    real = os.preadv

    def first_page(fd, buffers, offset, flags=0):
        content = bytearray(4096)
        count = real(fd, [content], offset)
        buffers[0][:count] = content[:count]
        return count

    monkeypatch.setattr(os, "preadv", first_page)
    assert found(neighbours, 7)
    assert found(neighbours, 8) is None
    monkeypatch.setattr(os, "preadv", lambda *_: (_ for _ in ()).throw(BlockingIOError()))
    assert found(neighbours, 7)
    monkeypatch.setattr(os, "preadv", real)
    assert found(neighbours, 8)


def test_a_disk_that_refuses_is_as_if_nothing_were_there(other, monkeypatch):
    neighbours = looking_at(other.stem)
    other.keep(4, 7)
    monkeypatch.setattr(os, "preadv", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    assert found(neighbours, 7) is None
    neighbours.close()


def test_a_start_waits_for_the_disk_and_later_looks_find_what_the_kernel_has_read_since(other, monkeypatch):
    real, asked = os.preadv, []

    def not_in_memory(fd, buffers, offset, flags=0):
        if flags:
            raise BlockingIOError
        return real(fd, buffers, offset)

    other.keep(4, 7)
    monkeypatch.setattr(os, "preadv", not_in_memory)
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, offset, length, advice: asked.append((offset, length)))
    neighbours = looking_at(other.stem)
    assert found(neighbours, 7) is None
    assert asked == [(0, os.path.getsize(other.stem.entries_path(0)))]
    neighbours.look(at_once=True, waits=True)
    assert neighbours.find(name_of(7))
