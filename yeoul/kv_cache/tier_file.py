"""TierFile: blocks of the cache in the slots of a file, each checked when it is read; knows no index, no order and no lock.

A rank has two files: slots of whole pages, and an entry of 64 bytes for each, that says which block is in it and what its
bytes add up to. Nothing has to reach the disk in any order: an entry whose slot holds anything else is found out by the
checksum, which covers the name as well, whatever process or machine died in between. Workers read and write;
EngineCore looks at the entries when it starts, and throws away what lies where no engine would.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

import xxhash

NAME_BYTES = 32
ENTRY_BYTES = 64
PAGE_BYTES = 4096
_MAGIC = b"yeoul kv tier 1\0"
_ENTRY = struct.Struct("<32s16sQ8x")
_HEADER = struct.Struct("<16s32sQ8x")
_EMPTY = bytes(ENTRY_BYTES)
_EMPTY_NAME = bytes(NAME_BYTES)
_MAX_STAMP = 1 << 62  # a larger one is damage; it would be the youngest for ever


class DamagedBlockError(Exception):
    """A slot does not hold what its entry says."""


class Entry(NamedTuple):
    """A slot that holds the block ``name``; the larger its ``stamp``, the later it was used."""

    slot: int
    name: bytes
    stamp: int


class TierStem(NamedTuple):
    """What the names of an engine's files begin with, of which each of ``num_ranks`` ranks has two."""

    path: str
    num_ranks: int

    def slots_path(self, rank: int) -> str:
        """The file of its slots."""
        return f"{self.path}-{rank}of{self.num_ranks}.slots"

    def entries_path(self, rank: int) -> str:
        """The file of what is in them."""
        return f"{self.path}-{rank}of{self.num_ranks}.entries"


class TierFile:
    """Two open files. ``block_bytes`` are the bytes of one block."""

    def __init__(self, slots_fd: int, entries_fd: int, block_bytes: int) -> None:
        self._slots_fd = slots_fd
        self._entries_fd = entries_fd
        self._block_bytes = block_bytes
        self._slot_bytes = slot_bytes_of(block_bytes)

    @classmethod
    def open(cls, slots_path: str, entries_path: str, block_bytes: int, *, is_own: bool = True) -> TierFile:
        """Files that are there; those of others are only read. Raises OSError."""
        flags = (os.O_RDWR if is_own else os.O_RDONLY) | os.O_CLOEXEC
        slots_fd = os.open(slots_path, flags)
        try:
            return cls(slots_fd, os.open(entries_path, flags), block_bytes)
        except OSError:
            os.close(slots_fd)
            raise

    def close(self) -> None:
        """Neither file may be used afterwards."""
        os.close(self._slots_fd)
        os.close(self._entries_fd)

    def write(self, slot: int, name: bytes, data: memoryview, stamp: int) -> None:
        """Puts a block into its slot; whatever was there before is gone, whether this succeeds or not.

        Raises:
            OSError: the disk is full, or refuses otherwise.
        """
        self.empty(slot)
        _write_all(self._slots_fd, data, slot * self._slot_bytes)
        self._write_entry(slot, _ENTRY.pack(name, checksum_of(name, data), stamp))

    def read(self, slot: int, name: bytes, data: memoryview, stamp: int | None = None) -> None:
        """Fills ``data`` with the block ``name``, which was used now: ``stamp`` notes that, if there is one.

        Raises:
            DamagedBlockError: it is not there, or not as it was.
            OSError: the disk refuses.
        """
        entry = os.pread(self._entries_fd, ENTRY_BYTES, _entry_offset(slot))
        _read_all(self._slots_fd, data, slot * self._slot_bytes)
        found, checksum, _ = _ENTRY.unpack(entry.ljust(ENTRY_BYTES, b"\0"))
        if found != name or checksum != checksum_of(name, data):
            raise DamagedBlockError("it is not what was written")
        if stamp is None:
            return
        with contextlib.suppress(OSError):  # the order in which slots are reused is worth no block
            self._write_entry(slot, _ENTRY.pack(name, checksum, stamp))

    def empty(self, slot: int) -> None:
        """The slot holds nothing from now on. Raises OSError."""
        self._write_entry(slot, _EMPTY)

    def _write_entry(self, slot: int, entry: bytes) -> None:
        _write_all(self._entries_fd, memoryview(entry), _entry_offset(slot))


def slot_bytes_of(block_bytes: int) -> int:
    """Whole pages."""
    return -(-block_bytes // PAGE_BYTES) * PAGE_BYTES


def checksum_of(name: bytes, data: memoryview) -> bytes:
    """Of a block and its name: 16 bytes."""
    hasher = xxhash.xxh3_128(name)
    hasher.update(data)
    return hasher.digest()


def read_entries(entries_fd: int, key: bytes, block_bytes: int, num_slots: int) -> list[Entry]:
    """What the first ``num_slots`` slots hold, if the file is of this ``key`` (32 bytes) and block; else nothing.

    Raises:
        OSError: the disk refuses.
    """
    content = os.pread(entries_fd, ENTRY_BYTES * (num_slots + 1), 0)
    return list(parse_entries(content)) if is_of(content, key, block_bytes) else []


def is_of(content: bytes, key: bytes, block_bytes: int) -> bool:
    """Whether a file of entries that begins so is of this key and block."""
    return content[:ENTRY_BYTES] == _header(key, block_bytes)


def begin_entries(entries_fd: int, key: bytes, block_bytes: int) -> None:
    """Makes the file one of this key in which nothing is. Raises OSError."""
    os.ftruncate(entries_fd, 0)
    _write_all(entries_fd, memoryview(_header(key, block_bytes)), 0)


def empty_entries(path: str, key: bytes, block_bytes: int, names: set[bytes] | None) -> None:
    """These blocks, or all, are in the file no longer; nobody else writes to it meanwhile. Raises OSError."""
    entries_fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if names is None:
            os.ftruncate(entries_fd, 0)
            return
        for entry in read_entries(entries_fd, key, block_bytes, os.fstat(entries_fd).st_size // ENTRY_BYTES):
            if entry.name in names:
                _write_all(entries_fd, memoryview(_EMPTY), _entry_offset(entry.slot))
    finally:
        os.close(entries_fd)


def entries_bytes_of(num_slots: int) -> int:
    """The size of a file of entries for so many slots."""
    return ENTRY_BYTES * (num_slots + 1)


def parse_entries(content: bytes, first_slot: int = -1) -> Iterator[Entry]:
    """Those in a piece of a file that begins in the place of ``first_slot``; the header is in that of -1, and is none."""
    whole = len(content) // ENTRY_BYTES * ENTRY_BYTES
    for slot, (name, _, stamp) in enumerate(_ENTRY.iter_unpack(content[:whole]), first_slot):
        if slot >= 0 and name != _EMPTY_NAME:
            yield Entry(slot, name, stamp if stamp < _MAX_STAMP else 0)


def _header(key: bytes, block_bytes: int) -> bytes:
    return _HEADER.pack(_MAGIC, key, block_bytes)


def _entry_offset(slot: int) -> int:
    return ENTRY_BYTES * (slot + 1)


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def _read_all(fd: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.preadv(fd, [data], offset)
        if count == 0:
            raise DamagedBlockError("the file is too short")
        data, offset = data[count:], offset + count
