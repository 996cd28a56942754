"""TierNeighbours: which blocks other engines keep in their parts of the tier, and in which slot; reads, and never writes.

Knows no request and no block of the cache. ``TierMoves`` asks it for what its own part does not have. What is found may be
written over before it is read, which its checksum tells then: it is as if it had not been found.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from yeoul.kv_cache.tier_file import ENTRY_BYTES, PAGE_BYTES, TierStem, is_of, parse_entries
from yeoul.messages.steps import NEIGHBOUR_SLOTS

_BYTES_AT_A_TIME = 1 << 18
_TIMES_BETWEEN = 20  # as long as a look takes nobody looks again


@dataclass(slots=True)
class _Part:
    """What is known of a neighbour's: ``seen`` is the file of entries when it was looked at last."""

    stem: TierStem
    fd: int | None = None
    seen: bytes = b""
    slots: dict[bytes, int] = field(default_factory=dict)

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
        self.fd, self.seen = None, b""
        self.slots.clear()


class TierNeighbours:
    """Those whose parts are, or will be, at ``stems``, with blocks of this ``key`` (32 bytes).

    ``throw_away`` is called with names of blocks, or None for all: they go from the parts that no engine holds, which nobody
    else would tell.
    """

    def __init__(
        self,
        stems: Sequence[TierStem],
        key: bytes,
        block_bytes: int,
        clock: Callable[[], float] = time.monotonic,
        throw_away: Callable[[set[bytes] | None], None] = lambda names: None,
    ) -> None:
        self.stems = list(stems)
        self._parts = [_Part(stem) for stem in stems]
        self._key = key
        self._block_bytes = block_bytes
        self._clock = clock
        self._throw_away = throw_away
        self._not_before = 0.0

    def close(self) -> None:
        """Nothing is found any longer."""
        for part in self._parts:
            part.close()

    def find(self, name: bytes) -> int | None:
        """Where the block is, as ``BlockMove`` says it."""
        for place, part in enumerate(self._parts, 1):
            if (slot := part.slots.get(name)) is not None:
                return place * NEIGHBOUR_SLOTS + slot
        return None

    def note_gone(self, slot: int, name: bytes) -> None:
        """Who read the slot found something else: the block is not found there before its neighbour has written it anew, or
        has used it. Nobody looks for that, since many may be gone at once."""
        place, slot = divmod(slot, NEIGHBOUR_SLOTS)
        slots = self._parts[place - 1].slots
        if slots.get(name) == slot:
            del slots[name]

    def doubt(self, names: Iterable[bytes]) -> None:
        """These are not found before their neighbour has written them anew, or has used them."""
        unwanted = set(names)
        self._throw_away(unwanted)
        self.look(at_once=True)
        for name in unwanted:
            for part in self._parts:
                part.slots.pop(name, None)

    def doubt_all(self) -> None:
        """As ``doubt``, all that there is."""
        self._throw_away(None)
        self.look(at_once=True)
        for part in self._parts:
            part.slots.clear()

    def look(self, *, at_once: bool = False, waits: bool = False) -> None:
        """Learns what the neighbours have now, unless it was looked a moment ago and need not be ``at_once``.

        Nobody ``waits`` for a disk here, but at a start: what is not in memory is learnt later.
        """
        if (began := self._clock()) >= self._not_before or at_once:
            for part in self._parts:
                try:
                    self._read(part, waits=waits)
                except OSError:  # whatever it is, the engine does without
                    part.close()
            ended = self._clock()
            self._not_before = ended + _TIMES_BETWEEN * (ended - began)

    def _read(self, part: _Part, *, waits: bool) -> None:
        if part.fd is None:
            with contextlib.suppress(FileNotFoundError):
                part.fd = os.open(part.stem.entries_path(0), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            if part.fd is None:
                return
        status = os.fstat(part.fd)
        if status.st_nlink == 0:  # removed; there may be another of its name
            part.close()
            return
        content = _read_entries(part.fd, status.st_size, part.seen, waits=waits)
        if not is_of(content, self._key, self._block_bytes):
            content = b""
        if part.seen:
            before, now = part.seen.ljust(len(content), b"\0"), content.ljust(len(part.seen), b"\0")
            for start in range(0, len(now), PAGE_BYTES):
                for offset in _changed(before, now, start, min(start + PAGE_BYTES, len(now))):
                    _note_change(part.slots, offset, before, now)
        else:
            part.slots.update((entry.name, entry.slot) for entry in parse_entries(content))
        part.seen = content


def _read_entries(fd: int, size: int, seen: bytes, *, waits: bool) -> bytes:
    """The file; unless it ``waits`` for the disk, what the kernel would have to read is as it was ``seen``, until it has."""
    content = bytearray(seen[:size].ljust(size, b"\0"))
    for start in range(0, size, _BYTES_AT_A_TIME):
        part = memoryview(content)[start : start + _BYTES_AT_A_TIME]
        found = bytearray(len(part))
        try:
            count = os.preadv(fd, [found], start, 0 if waits else os.RWF_NOWAIT)
        except BlockingIOError:
            count = 0
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:  # of a file system that is memory itself, for one
                raise
            count = os.preadv(fd, [found], start)
        part[:count] = found[:count]
        if count < len(part):
            os.posix_fadvise(fd, start + count, len(part) - count, os.POSIX_FADV_WILLNEED)
    return bytes(content)


def _changed(before: bytes, now: bytes, start: int, end: int) -> Iterator[int]:
    """Where the entries begin that are not the same in both, between these bytes."""
    if before[start:end] != now[start:end]:
        if end - start <= ENTRY_BYTES:
            yield start
        else:
            middle = start + max(1, (end - start) // ENTRY_BYTES // 2) * ENTRY_BYTES
            yield from _changed(before, now, start, middle)
            yield from _changed(before, now, middle, end)


def _note_change(slots: dict[bytes, int], offset: int, before: bytes, now: bytes) -> None:
    slot = offset // ENTRY_BYTES - 1  # the file's header is in the place of an entry
    for gone in parse_entries(before[offset : offset + ENTRY_BYTES], slot):
        if slots.get(gone.name) == slot:
            del slots[gone.name]
    for come in parse_entries(now[offset : offset + ENTRY_BYTES], slot):
        slots[come.name] = slot
