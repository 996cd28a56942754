"""TierMoves: what goes from the cache to the tier below it, and comes back; knows no file and no request.

Called by Scheduler and Prefixes. A block is stored when it is named, so that it outlives its worker: the next step takes
along what it then holds. A load fills blocks that nobody else uses; they get their names when all ranks have them all, and
whoever waits for them is admitted as with any known prefix.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from yeoul.errors import ProcessDeadError
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.kv_cache.tier_index import TierIndex
from yeoul.kv_cache.tier_neighbours import TierNeighbours
from yeoul.messages.steps import NEIGHBOUR_SLOTS, BlockMove, MoveResult

logger = logging.getLogger(__name__)

_MAX_NUM_QUEUED = 8192  # blocks that are to be stored; those that wait longest are passed over
_MIN_LOADED_TOKENS = 64  # fewer are computed as fast
_MAX_LOAD_SECONDS = 10.0  # a disk that hangs keeps nobody longer; one that is busy may
_MAX_HANGING_SECONDS = 60.0  # that blocks are held for a disk that nobody waits for any longer


@dataclass
class Load:
    """The blocks of ``names``, which are behind the first ``num_known`` of the table, come from ``slots``, of which some are
    ``left``, with their names, and some have ``failed``. ``is_wanted``: nobody has
    forgotten them since. A disk that is silent may take until ``until``; a load without ``names`` is given up. ``tell``
    hears which are new to the cache. What a request ``in_gaps`` loads takes nobody's place. Nobody waits for it from
    ``ended_at`` on."""

    table: list[int]
    num_known: int
    names: list[bytes]
    slots: list[int]
    left: dict[int, bytes]
    failed: set[int]
    until: float
    tell: Callable[[list[bool]], None] | None
    in_gaps: bool
    is_wanted: bool = True
    ended_at: float | None = None


class TierMoves:
    """Of one cache and one index.

    Args:
        index: of the slots.
        cache: the blocks above.
        num_ranks: that each have a part of every block.
        max_num_stores: blocks that may be on their way down at a time.
        neighbours: what other engines keep, which is loaded as well; None where there are none.
    """

    def __init__(
        self,
        index: TierIndex,
        cache: KVCacheManager,
        num_ranks: int,
        max_num_stores: int,
        neighbours: TierNeighbours | None = None,
    ) -> None:
        self.index = index
        self.now = 0.0  # of the step that is put together
        self.coming: dict[bytes, Load] = {}  # what brings it
        self.stores: list[BlockMove] = []  # of the next step, as the following two
        self.loads: list[BlockMove] = []
        self.emptied_slots: list[int] = []
        self.total_stored = self.total_loaded = self.total_failed = 0
        self._cache = cache
        self._num_ranks = num_ranks
        self._max_num_stores = max_num_stores
        self._neighbours = neighbours
        self._queue: deque[bytes] = deque(maxlen=_MAX_NUM_QUEUED)
        self._answers_left: dict[int, int] = {}  # by slot: ranks that have not answered
        self._failures: dict[int, str] = {}
        self._loads: dict[int, Load] = {}  # by the first of the blocks they fill, which no other fills
        self._load_of: dict[int, Load] = {}  # by slot
        self._emptying: dict[int, int] = {}  # by slot: answers that are left, of each rank that empties it
        self._progress_at = 0.0  # when something had ended last
        self._has_progressed = False
        self._ended: list[Load] = []  # since the last step was put together
        self._has_told = False

    @property
    def tables(self) -> dict[str, list[int]]:
        """The blocks that loads hold, as if each were a request."""
        return {f"load into block {block_id}": load.table for block_id, load in self._loads.items()}

    @property
    def is_waiting(self) -> bool:
        """Whether anything is on its way, in either direction."""
        return bool(self._answers_left)

    @property
    def has_news(self) -> bool:
        """Whether the next step has to take something along."""
        return bool(self.stores or self.loads or self.emptied_slots)

    def keeps(self, name: bytes) -> bool:
        """Whether other engines find the block, too."""
        return self.index.is_readable(name) or (self._neighbours is not None and self._neighbours.find(name) is not None)

    def note_named(self, names: Iterable[bytes]) -> None:
        """These blocks of the cache can be found from now on: they are to be stored."""
        self._queue += [name for name in names if not self._has(name)]

    def prepare(self, now: float) -> None:
        """Before a step is put together, and blocks are reused for it: those of the queue that are still where their name
        says, as many as may be on their way.

        Raises:
            ProcessDeadError: the disk has hung for so long that only other workers give the blocks back which it holds.
        """
        self.now = now
        if self._has_progressed:
            self._progress_at, self._has_progressed = now, False
        for load in self._ended:
            load.ended_at = now
        self._ended.clear()
        for load in self._loads.values():
            if max(load.until, self._progress_at + _MAX_LOAD_SECONDS) < now:
                self._give_up(load)
        while self._queue and self.index.num_filling < self._max_num_stores:
            name = self._queue.popleft()
            if not (block_ids := self._cache.find_prefix([name])) or self._has(name):
                continue
            if (slot := self.index.begin_filling(name)) is None:
                return
            self.stores.append(BlockMove(block_ids[0], slot, name, self.index.next_stamp()))
            self._answers_left[slot] = self._num_ranks

    def take(self) -> tuple[list[BlockMove], list[BlockMove], list[int]]:
        """What was prepared: stores, loads, emptied slots. A step has them now."""
        taken = self.stores, self.loads, self.emptied_slots
        for slot in self.emptied_slots:
            self._emptying[slot] = self._emptying.get(slot, 0) + self._num_ranks
        self.stores, self.loads, self.emptied_slots = [], [], []
        return taken

    def find(self, names: Sequence[bytes]) -> int:
        """How many of these blocks, from the first on, are to be loaded: those that are there, and not above or on their way.

        0 where it would not be worth it, or the disk hangs.
        """
        if not all(load.names for load in self._loads.values()):
            return 0
        if len(names) * self._cache.block_size < _MIN_LOADED_TOKENS:
            return 0
        count = len(self.index.find(names))
        if count < len(names) and self._neighbours is not None:
            self._neighbours.look()
            while count < len(names) and self._can_load(names[count]):
                count += 1
        if count * self._cache.block_size < _MIN_LOADED_TOKENS:
            return 0
        find_prefix, coming = self._cache.find_prefix, self.coming
        return next(
            (place for place in range(count) if names[place] in coming or find_prefix(names[place : place + 1])), count
        )

    def load(
        self,
        table: list[int],
        num_known: int,
        names: Sequence[bytes],
        tell: Callable[[list[bool]], None] | None = None,
        *,
        in_gaps: bool = False,
    ) -> Load:
        """Fills the blocks of ``table`` behind the first ``num_known`` with those of ``names``; gives the table back then.

        ``tell`` is called with which of them are new to the cache, up to the first that has not come.
        """
        slots = [self._begin_reading(name) for name in names]
        assert self._answers_left.keys().isdisjoint(slots), "a slot is moved twice"
        until = self.now + _MAX_LOAD_SECONDS
        left = dict(zip(slots, names, strict=True))
        load = Load(table, num_known, list(names), slots, left, set(), until, tell, in_gaps)
        for block_id, slot, name in zip(table[num_known:], slots, names, strict=True):
            self.loads.append(BlockMove(block_id, slot, name, self.index.next_stamp()))
            self._answers_left[slot] = self._num_ranks
            self._load_of[slot] = load
        self._loads[table[num_known]] = load
        self.coming.update(dict.fromkeys(names, load))
        return load

    def neighbours_of(self, loads: Iterable[BlockMove]) -> list[str]:
        """The stems that workers need for these; none for those of the own part."""
        if self._neighbours is None or all(move.slot < NEIGHBOUR_SLOTS for move in loads):
            return []
        return [stem.path for stem in self._neighbours.stems]

    def note(self, results: Iterable[MoveResult]) -> None:
        """What has ended on some rank. A slot that is emptied and filled again has an answer for each, in either order."""
        for result in results:
            if result.failure is None and result.slot in self._emptying:
                self._emptying[result.slot] -= 1
                if self._emptying[result.slot] == 0:
                    del self._emptying[result.slot]
                continue
            left = self._answers_left.get(result.slot, 0) - 1
            if left < 0:
                continue  # of workers that were replaced since
            if result.failure is not None:
                self._failures[result.slot] = result.failure
            if left > 0:
                self._answers_left[result.slot] = left
            else:
                del self._answers_left[result.slot]
                self._end(result.slot, self._failures.pop(result.slot, None))

    def forget(self, names: Iterable[bytes]) -> None:
        """None of these is found from now on, here or after another start."""
        names = list(names)
        self.emptied_slots += self.index.forget(names)
        if self._neighbours is not None:
            self._neighbours.doubt(names)
        if self._loads:
            unwanted = set(names)
            for load in self._loads.values():
                load.is_wanted = load.is_wanted and unwanted.isdisjoint(load.names)

    def forget_all(self) -> None:
        """As if nothing had ever been stored."""
        self._queue.clear()
        self.forget(self.index.names())
        if self._neighbours is not None:
            self._neighbours.doubt_all()
        for load in self._loads.values():
            load.is_wanted = False

    def reset(self) -> None:
        """The workers were replaced: nothing is on its way any longer, and what was stored is still there.

        What was on its way is not trusted: it may be what they died of.
        """
        loaded = [name for load in self._loads.values() for name in load.names]
        emptied = dict.fromkeys([*self._emptying, *self.emptied_slots, *self.index.forget(loaded)])
        if self._neighbours is not None and loaded:
            self._neighbours.doubt(loaded)
        for load in self._loads.values():
            self._cache.free(load.table)
            if load.names:
                self._ended.append(load)
        self.index.forget(self.index.names_on_their_way())
        for slot in self._answers_left:
            if slot < NEIGHBOUR_SLOTS:
                self.index.end(slot, is_good=False)
                emptied[slot] = None
        self.emptied_slots = list(emptied)
        for gone in (self._queue, self._answers_left, self._failures, self._loads, self._load_of, self.coming):
            gone.clear()
        self._emptying.clear()
        self.stores, self.loads = [], []

    def lose(self) -> None:
        """After ``reset``: there are no slots from now on, so that nothing is found or stored."""
        self.index, self._neighbours = TierIndex(0), None
        self.emptied_slots = []

    def counts(self) -> dict[str, int]:
        """For EngineStatistics."""
        return {
            "num_tier_blocks": len(self.index),
            "max_num_tier_blocks": self.index.num_slots,
            "total_tier_stored_blocks": self.total_stored,
            "total_tier_loaded_blocks": self.total_loaded,
            "total_tier_failed_blocks": self.total_failed,
            "total_tier_hit_tokens": self.total_loaded * self._cache.block_size,
        }

    def check_invariants(self) -> None:
        """Raises AssertionError unless moves, loads and slots agree."""
        self.index.check_invariants()
        assert self._load_of.keys() <= self._answers_left.keys(), "a load waits for nothing"
        assert {name for load in self._loads.values() for name in load.names} == self.coming.keys(), (
            "who waits, waits for nothing"
        )
        assert len(self._answers_left) - len(self._load_of) == self.index.num_filling, "a store is lost"

    def _has(self, name: bytes) -> bool:
        return self.index.has(name) or (self._neighbours is not None and self._neighbours.find(name) is not None)

    def _can_load(self, name: bytes) -> bool:
        """Nobody keeps a neighbour from writing over what is read: another block may be where one is still read from, and
        that one's answer would count as its own."""
        if self.index.is_readable(name):
            return True
        slot = None if self._neighbours is None else self._neighbours.find(name)
        return slot is not None and slot not in self._answers_left

    def _begin_reading(self, name: bytes) -> int:
        if not self.index.is_readable(name):
            assert self._neighbours is not None, "the block is nowhere"
            if (slot := self._neighbours.find(name)) is not None:
                return slot
        return self.index.begin_reading(name)

    def _end(self, slot: int, failure: str | None) -> None:
        self._has_progressed = True
        load = self._load_of.pop(slot, None)
        if slot >= NEIGHBOUR_SLOTS:
            self._note_neighbours(slot, load, failure)
            return
        if not self.index.end(slot, is_good=failure is None) and failure is None:
            self.emptied_slots.append(slot)  # it was forgotten meanwhile
        if failure is not None:
            self._tell(failure, is_load=load is not None)
            self.total_failed += 1
        elif load is None:
            self.total_stored += 1
        else:
            self.total_loaded += 1
        if load is not None:
            self._note_loaded(load, slot, failure)

    def _note_neighbours(self, slot: int, load: Load | None, failure: str | None) -> None:
        """A block of a neighbour has come, or has not: it may have been written over, which is no fault of the disk."""
        if load is None:
            return
        if failure is None:
            self.total_loaded += 1
        elif self._neighbours is not None:
            self._neighbours.note_gone(slot, load.left[slot])
        self._note_loaded(load, slot, failure)

    def _note_loaded(self, load: Load, slot: int, failure: str | None) -> None:
        del load.left[slot]
        if failure is not None:
            load.failed.add(slot)
        if not load.left:
            self._finish(load)

    def _finish(self, load: Load) -> None:
        """Names what has come, up to the first block that has not."""
        del self._loads[load.table[load.num_known]]
        self._let_go(load)
        is_new: list[bool] = []
        if load.is_wanted:
            for block_id, slot, name in zip(load.table[load.num_known :], load.slots, load.names, strict=True):
                if slot in load.failed:
                    break
                is_new.append(self._cache.name_block(block_id, name))
        if load.tell is not None:
            load.tell(is_new)
        self._cache.free(load.table, len(load.slots) if load.in_gaps else 0)

    def _give_up(self, load: Load) -> None:
        """Whoever waits for it computes what it should bring. Its blocks stay as they are: they may still be written to."""
        if not load.names:
            raise ProcessDeadError("Workers", f"have waited for their disk for more than {_MAX_HANGING_SECONDS:.0f} s")
        self._tell("the disk does not answer", is_load=True)
        self._let_go(load)
        load.names, load.is_wanted, load.until = [], False, self.now + _MAX_HANGING_SECONDS

    def _let_go(self, load: Load) -> None:
        """Nobody waits for it any longer."""
        for name in load.names:
            del self.coming[name]
        if load.names:
            self._ended.append(load)

    def _tell(self, failure: str, *, is_load: bool) -> None:
        done, instead = ("read", "computed anew") if is_load else ("stored", "not kept")
        if not self._has_told:
            logger.warning(
                "a block below the cache could not be %s (%s), and is %s; this is said once", done, failure, instead
            )
            self._has_told = True
