"""TierIndex: which block is in which slot of the tier below the cache, and which slot is the next to be reused.

Knows names and slots alone: no file, no block of the cache, no request. Called by ``scheduler/tier_moves.py``. A slot is
empty, on its way to be filled, or readable; a readable one that is being read is not reused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from enum import Enum, auto

from yeoul.kv_cache.tier_file import Entry

_NUM_BETWEEN_TRIES = 100  # blocks that are stored in used slots before an empty one is tried again


class _Disk(Enum):
    """What is known of it. A ``FULL`` one refuses empty slots, and takes what lies in the place of something else."""

    READY = auto()
    FULL = auto()
    REFUSING = auto()


class TierIndex:
    """``num_slots`` slots, of which ``entries`` say what they hold; where two hold the same the later one counts."""

    def __init__(self, num_slots: int, entries: Iterable[Entry] = ()) -> None:
        self.num_slots = num_slots
        self._readable: OrderedDict[bytes, int] = OrderedDict()  # the longest unused first
        self._filling: dict[int, bytes] = {}
        self._fillers: dict[bytes, int] = {}
        self._reading: dict[int, bytes] = {}
        self._reused: set[int] = set()  # of those that are filled
        self._disk = _Disk.READY
        self._num_since_try = 0  # in a full one
        self.stamp = 0
        used = set()
        for entry in sorted(entries, key=lambda entry: entry.stamp):
            if entry.slot < num_slots:
                if (older := self._readable.pop(entry.name, None)) is not None:
                    used.discard(older)
                self._readable[entry.name] = entry.slot
                used.add(entry.slot)
                self.stamp = entry.stamp
        self._empty = [slot for slot in range(num_slots - 1, -1, -1) if slot not in used]  # the last is taken next

    def __len__(self) -> int:
        """How many blocks can be read."""
        return len(self._readable)

    @property
    def num_filling(self) -> int:
        """How many are on their way here."""
        return len(self._filling)

    def has(self, name: bytes) -> bool:
        """Whether the block is here, or on its way."""
        return name in self._readable or name in self._fillers

    def is_readable(self, name: bytes) -> bool:
        """Whether the block is here, and not only on its way."""
        return name in self._readable

    def find(self, names: Sequence[bytes]) -> list[int]:
        """The slots of the longest beginning of ``names`` that can be read."""
        slots = []
        for name in names:
            if (slot := self._readable.get(name)) is None:
                break
            slots.append(slot)
        return slots

    def touch(self, names: Iterable[bytes]) -> None:
        """These were used now; those that are not here are none of ours."""
        for name in names:
            if name in self._readable:
                self._readable.move_to_end(name)

    def next_stamp(self) -> int:
        """A larger number each time."""
        self.stamp += 1
        return self.stamp

    def begin_filling(self, name: bytes) -> int | None:
        """A slot for a block that is not here: an empty one, or the longest unused; None where all are busy.

        While the disk has no room for more than lies there, the longest unused comes first.
        """
        assert not self.has(name), "the block is here already"
        oldest = None
        if not self._empty or self._disk is _Disk.FULL:
            oldest = next((old for old, slot in self._readable.items() if slot not in self._reading), None)
        if self._empty and (oldest is None or self._num_since_try >= _NUM_BETWEEN_TRIES):
            self._num_since_try = 0
            slot = self._empty.pop()
        elif oldest is not None:
            self._num_since_try += 1
            slot = self._readable.pop(oldest)
            self._reused.add(slot)
        else:
            return None
        self._filling[slot] = name
        self._fillers[name] = slot
        return slot

    def begin_reading(self, name: bytes) -> int:
        """The slot of a readable block, which keeps it until ``end``."""
        slot = self._readable[name]
        self._readable.move_to_end(name)
        self._reading[slot] = name
        return slot

    def end(self, slot: int, *, is_good: bool) -> bool:
        """What was on its way to or from the slot has come, or it has not, and then the slot is empty.

        Returns:
            whether the slot holds a block from now on that can be found: not one that was forgotten meanwhile.
        """
        if (name := self._filling.pop(slot, None)) is not None:
            was_used = slot in self._reused
            self._reused.discard(slot)
            if self._fillers.get(name) == slot:
                del self._fillers[name]
                self._learn(was_used=was_used, is_good=is_good)
                if is_good:
                    self._readable[name] = slot
                    return True
        elif (name := self._reading.pop(slot, None)) is not None:
            if self._readable.get(name) == slot:
                if is_good:
                    return True
                del self._readable[name]
        else:
            return False
        self._empty.append(slot)
        return False

    def _learn(self, *, was_used: bool, is_good: bool) -> None:
        """From a block that was stored, or not. What lies in used slots is not thrown away for a disk that refuses all."""
        if not was_used and is_good:
            self._disk = _Disk.READY
        elif not was_used and self._disk is _Disk.READY:
            self._disk, self._num_since_try = _Disk.FULL, 0
        elif was_used and not is_good:
            self._disk = _Disk.REFUSING

    def forget(self, names: Iterable[bytes]) -> list[int]:
        """None of these is found from now on; the slots that hold them now, or will."""
        slots = []
        for name in names:
            if (slot := self._readable.pop(name, None)) is not None:
                slots.append(slot)
                if slot not in self._reading:
                    self._empty.append(slot)
            elif (slot := self._fillers.pop(name, None)) is not None:
                slots.append(slot)  # empty when what is on its way has come
        return slots

    def names(self) -> list[bytes]:
        """Of all that is here, or on its way."""
        return [*self._readable, *self._fillers]

    def names_on_their_way(self) -> list[bytes]:
        """Of what is filled now."""
        return list(self._fillers)

    def check_invariants(self) -> None:
        """Raises AssertionError unless each slot is in one state, and each name leads to one slot."""
        readable, filling = set(self._readable.values()), set(self._filling)
        assert len(readable) == len(self._readable), "a slot has two names"
        assert not readable & filling, "a slot is filled and read"
        assert len(self._empty) == len(set(self._empty)), "a slot is empty twice"
        assert not set(self._empty) & (readable | filling | set(self._reading)), "a slot is empty and in use"
        assert len(self._empty) + len(readable | filling | set(self._reading)) == self.num_slots, "a slot is lost"
        assert all(self._filling.get(slot) == name for name, slot in self._fillers.items()), "a name leads elsewhere"
        assert not self._readable.keys() & self._fillers.keys(), "a block is here twice"
