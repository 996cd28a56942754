"""BlockEvents: which blocks came to be found, and which are no more, since somebody last asked; knows no socket.

The cache and ``Prefixes`` tell it, where there is one; EngineCore takes what has come together once a step.
"""

from __future__ import annotations

from collections.abc import Sequence

from yeoul.messages.kv_events import (
    KNOWN_TO_THE_ENGINE,
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    KVEvent,
)


class BlockEvents:
    """Of one cache. What was not told to be stored is not told to be removed: of some prefixes nobody hears at all."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._told: set[bytes] = set()
        self._events: list[KVEvent] = [AllBlocksCleared()]
        self._removed: list[int] = []  # since the last other event

    def note_stored(self, hashes: Sequence[bytes], token_ids: Sequence[int], first: int, is_new: Sequence[bool]) -> None:
        """The blocks of ``token_ids`` from the ``first`` on are found, if new; ``hashes`` are those from the first of all."""
        size, start = self._block_size, 0
        while start < len(is_new):
            end = start
            while end < len(is_new) and is_new[end]:
                end += 1
            if end > start:
                begin, stop = first + start, first + end
                self._told.update(hashes[begin:stop])
                self._put(
                    BlockStored(
                        block_hashes=[_as_number(name) for name in hashes[begin:stop]],
                        parent_block_hash=_as_number(hashes[begin - 1]) if begin > 0 else None,
                        token_ids=list(token_ids[begin * size : stop * size]),
                        block_size=size,
                        lora_id=None,
                        medium=KNOWN_TO_THE_ENGINE,
                        lora_name=None,
                    )
                )
            start = end + 1

    def note_removed(self, name: bytes) -> None:
        """The block of this name is found no more."""
        if name in self._told:
            self._told.remove(name)
            self._removed.append(_as_number(name))

    def note_cleared(self) -> None:
        """Nothing is."""
        self._told.clear()
        self._put(AllBlocksCleared())

    def take(self) -> list[KVEvent]:
        """All since the last time, in their order."""
        self._tell_removed()
        events, self._events = self._events, []
        return events

    def _put(self, event: KVEvent) -> None:
        self._tell_removed()
        self._events.append(event)

    def _tell_removed(self) -> None:
        if self._removed:
            self._events.append(BlockRemoved(block_hashes=self._removed, medium=KNOWN_TO_THE_ENGINE))
            self._removed = []


def _as_number(name: bytes) -> int:
    return int.from_bytes(name[-8:], "big")
