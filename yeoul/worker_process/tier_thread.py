"""TierThread: moves blocks between a rank's cache and its files beside the steps; knows no index, no request and no model.

``Worker`` hands it what a step takes along. What is to be stored is copied at once, so that the step may write over it, and
written by the thread; what is to be loaded the thread reads into blocks that no step touches meanwhile. Whatever goes wrong
with a block is that block's failure. Imports no torch.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yeoul.kv_cache.tier_file import DamagedBlockError, TierFile, TierStem
from yeoul.messages.steps import NEIGHBOUR_SLOTS, BlockMove, MoveResult, StepInput, TierFiles
from yeoul.transport.thread_names import set_thread_name

Blocks = npt.NDArray[np.uint8]
"""The memory of a cache: a row a block."""

_WAIT_SECONDS = 0.005  # that a step of no requests waits for what is on its way; one of requests does not


class _Emptied(NamedTuple):
    """A slot that is to hold nothing."""

    slot: int


class _Outgoing(NamedTuple):
    """``place`` is where the copy is."""

    slot: int
    name: bytes
    stamp: int
    place: int


class TierThread:
    """Of one cache. A file that cannot be opened is the failure of each block.

    Args:
        files: where this rank's files are.
        rank: which of them they are.
        blocks: the cache.
    """

    def __init__(self, files: TierFiles, rank: int, blocks: Blocks) -> None:
        self._blocks = blocks
        self._copies = _memory(files.max_num_stores, blocks.shape[1])
        self._places = list(range(files.max_num_stores))  # the last is taken next: its pages are there
        self._has_memory = threading.Event()  # the thread writes to the copies' memory until then
        self._changed = threading.Condition()
        self._stores: deque[_Outgoing | _Emptied] = deque()  # in their order: a slot is emptied before it is filled again
        self._loads: deque[BlockMove] = deque()
        self._results: list[MoveResult] = []
        self._num_left = 0
        self._is_stopping = False
        self._file: TierFile | None = None
        self._flaw = ""
        self._rank, self._num_ranks = rank, len(files.slot_paths)
        self._neighbours: list[str] = []
        self._others: dict[str, TierFile] = {}  # by stem; of neighbours, which are only read
        paths = files.slot_paths[rank], files.entry_paths[rank]
        self._thread = threading.Thread(target=self._run, args=paths, name="KVTier", daemon=True)
        self._thread.start()

    def begin(self, step: StepInput) -> None:
        """Takes along what the step says, before it is computed."""
        if not (step.stores or step.loads or step.emptied_slots):
            return
        stores: list[_Outgoing | _Emptied] = [_Emptied(slot) for slot in step.emptied_slots]
        if step.stores:
            self._has_memory.wait()
        for move in step.stores:
            place = self._places.pop()
            self._copies[place] = self._blocks[move.block_id]
            stores.append(_Outgoing(move.slot, move.name, move.stamp, place))
        with self._changed:
            if step.emptied_slots:
                self._drop_stores(set(step.emptied_slots))
            self._stores += stores
            self._loads += step.loads
            self._neighbours = step.neighbours or self._neighbours
            self._num_left += len(stores) + len(step.loads)
            self._changed.notify_all()

    def _drop_stores(self, slots: set[int]) -> None:
        """What is still to be written there was forgotten since: other engines would find it until the slot is emptied."""
        waiting, self._stores = self._stores, deque()
        for move in waiting:
            if isinstance(move, _Outgoing) and move.slot in slots:
                self._places.append(move.place)
                self._results.append(MoveResult(move.slot))
                self._num_left -= 1
            else:
                self._stores.append(move)

    def ended(self, *, waits: bool) -> list[MoveResult]:
        """What has ended since this was called last; ``waits`` a moment for all that is on its way."""
        with self._changed:
            if waits:
                self._changed.wait_for(lambda: self._num_left == 0, _WAIT_SECONDS)
            results, self._results = self._results, []
        return results

    def stop(self) -> None:
        """What has not begun is not done, but for slots to be emptied; the memory of the cache is not touched any longer."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        self._thread.join()
        for file in (self._file, *self._others.values()):
            if file is not None:
                file.close()

    def _run(self, slots_path: str, entries_path: str) -> None:
        set_thread_name("KVTier")
        self._copies.reshape(-1)[:: mmap.PAGESIZE] = 0  # the kernel hands the pages out now, and not within a step
        self._has_memory.set()  # before the file, whose disk may hang
        try:
            self._file = TierFile.open(slots_path, entries_path, self._blocks.shape[1])
        except OSError as error:
            self._flaw = _describe(error)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopping or self._stores or self._loads)
                if self._is_stopping:
                    break
                move = self._loads.popleft() if self._loads else self._stores.popleft()
            try:
                result = self._do(move)
            except Exception as error:  # a bug of ours; whoever waits for the block is to hear of it
                result = MoveResult(move.slot, f"{type(error).__name__}: {error}")
            with self._changed:
                self._results.append(result)
                self._num_left -= 1
                if self._num_left == 0:
                    self._changed.notify_all()
        for rest in self._stores:
            if isinstance(rest, _Emptied):
                self._empty(rest.slot)

    def _do(self, move: BlockMove | _Outgoing | _Emptied) -> MoveResult:
        if isinstance(move, BlockMove):
            return self._load(move)
        if isinstance(move, _Outgoing):
            return self._store(move)
        self._empty(move.slot)
        return MoveResult(move.slot)

    def _load(self, move: BlockMove) -> MoveResult:
        if move.slot >= NEIGHBOUR_SLOTS:
            return self._load_from_neighbour(move)
        try:
            self._opened.read(move.slot, move.name, memoryview(self._blocks[move.block_id]), move.stamp)
        except DamagedBlockError as error:
            self._empty(move.slot)
            return MoveResult(move.slot, str(error))
        except OSError as error:
            return MoveResult(move.slot, _describe(error))
        return MoveResult(move.slot)

    def _load_from_neighbour(self, move: BlockMove) -> MoveResult:
        """Which may write something else there at any time."""
        place, slot = divmod(move.slot, NEIGHBOUR_SLOTS)
        path = self._neighbours[place - 1]
        try:
            if (file := self._others.get(path)) is None:
                stem, block_bytes = TierStem(path, self._num_ranks), self._blocks.shape[1]
                paths = stem.slots_path(self._rank), stem.entries_path(self._rank)
                file = self._others[path] = TierFile.open(*paths, block_bytes, is_own=False)
            file.read(slot, move.name, memoryview(self._blocks[move.block_id]))
        except (DamagedBlockError, OSError) as error:
            if (gone := self._others.pop(path, None)) is not None:  # there may be another file of this name
                gone.close()
            return MoveResult(move.slot, str(error))
        return MoveResult(move.slot)

    def _store(self, move: _Outgoing) -> MoveResult:
        try:
            self._opened.write(move.slot, move.name, memoryview(self._copies[move.place]), move.stamp)
        except OSError as error:
            return MoveResult(move.slot, _describe(error))
        finally:
            self._places.append(move.place)
        return MoveResult(move.slot)

    def _empty(self, slot: int) -> None:
        """Few bytes. Where the disk refuses them it refuses others as well, and whoever reads the block is told."""
        with contextlib.suppress(OSError):
            self._opened.empty(slot)

    @property
    def _opened(self) -> TierFile:
        if self._file is None:
            raise OSError(0, self._flaw)
        return self._file


def _memory(num_blocks: int, block_bytes: int) -> Blocks:
    """Room for so many blocks, in huge pages where the kernel has them."""
    memory = mmap.mmap(-1, num_blocks * block_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype=np.uint8).reshape(num_blocks, block_bytes)


def _describe(error: OSError) -> str:
    return error.strerror or str(error)
