"""Moves between the cache and the tier below: a disk that is slow is waited for, one that hangs keeps nobody and nothing."""

from __future__ import annotations

import pytest

from yeoul.config.settings import SchedulerSettings
from yeoul.errors import ProcessDeadError
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.kv_cache.tier_file import TierStem
from yeoul.kv_cache.tier_index import TierIndex
from yeoul.kv_cache.tier_neighbours import TierNeighbours
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import NEIGHBOUR_SLOTS, BlockMove, MoveResult, RequestResult, StepResult
from yeoul.scheduler.scheduler import Scheduler
from yeoul.scheduler.tier_moves import TierMoves

BLOCK_SIZE = 16


def names_of(first: int, count: int) -> list[bytes]:
    return [number.to_bytes(32, "big") for number in range(first, first + count)]


class Tier:
    """A tier in which the blocks 0 to 99 are, below an empty cache; each move ends when a test says so."""

    def __init__(self, neighbours: TierNeighbours | None = None) -> None:
        self.cache = KVCacheManager(200, BLOCK_SIZE, True)
        self.index = TierIndex(120)
        for name in names_of(0, 100):
            slot = self.index.begin_filling(name)
            assert slot is not None
            self.index.end(slot, is_good=True)
        self.moves = TierMoves(self.index, self.cache, 1, 64, neighbours)

    def load(self, first: int, count: int, *, in_gaps: bool = False) -> list[int]:
        """The slots that are read now."""
        names = names_of(first, count)
        assert self.moves.find(names) == count
        table = self.cache.allocate_table([], count, 0)
        assert table is not None
        self.moves.load(table, 0, names, in_gaps=in_gaps)
        return [move.slot for move in self.moves.take()[1]]

    def end(self, slots: list[int], failure: str | None = None) -> None:
        self.moves.note([MoveResult(slot, failure) for slot in slots])
        self.check()

    def prepare(self, now: float) -> None:
        self.moves.prepare(now)
        self.check()

    def check(self) -> None:
        self.moves.check_invariants()
        self.cache.check_invariants(self.moves.tables)


@pytest.fixture
def tier() -> Tier:
    return Tier()


def test_a_disk_that_is_busy_loses_no_block(tier):
    first, second = tier.load(0, 10), tier.load(10, 10)
    for second_number in range(1, 11):
        tier.prepare(2.0 * second_number)
        tier.end([first[second_number - 1]])
    tier.prepare(29.0)
    assert tier.moves.coming.keys() == set(names_of(10, 10))
    tier.end(second)
    tier.prepare(30.0)
    assert len(tier.cache.find_prefix(names_of(10, 10))) == 10


def test_a_disk_that_hangs_keeps_nobody(tier):
    tier.load(0, 10)
    tier.prepare(9.0)
    assert tier.moves.coming
    tier.prepare(10.5)
    assert not tier.moves.coming


@pytest.mark.parametrize("unwanted", ["one", "all"])
def test_nobody_waits_without_end_for_what_was_forgotten_on_its_way(tier, unwanted):
    tier.load(0, 10)
    if unwanted == "one":
        tier.moves.forget(names_of(5, 1))
    else:
        tier.moves.forget_all()
    tier.prepare(10.5)
    assert not tier.moves.coming


def test_no_more_blocks_are_held_behind_a_disk_that_hangs(tier):
    slots = tier.load(0, 10)
    tier.prepare(10.5)
    assert tier.moves.find(names_of(20, 10)) == 0
    tier.end(slots)
    assert tier.moves.find(names_of(20, 10)) == 10


def test_what_came_too_late_is_there_for_the_next(tier):
    slots = tier.load(0, 10)
    tier.prepare(10.5)
    tier.end(slots)
    assert tier.cache.num_used_blocks == 0
    assert tier.moves.find(names_of(0, 10)) == 10


def test_workers_whose_disk_hangs_for_long_are_replaced(tier):
    """Their blocks may be written to until then."""
    tier.load(0, 10)
    tier.prepare(10.5)
    tier.prepare(70.0)
    assert tier.cache.num_used_blocks == 10
    with pytest.raises(ProcessDeadError, match="disk"):
        tier.prepare(71.0)
    tier.cache.reset()
    tier.moves.reset()
    tier.check()
    assert tier.cache.num_used_blocks == 0
    tier.prepare(72.0)


def test_what_is_to_be_emptied_outlives_the_step_that_carries_it(tier):
    tier.moves.forget(names_of(0, 3))
    _, _, first = tier.moves.take()
    tier.moves.forget(names_of(3, 2))
    _, _, second = tier.moves.take()
    tier.moves.forget(names_of(5, 1))
    waiting = list(tier.moves.emptied_slots)
    tier.end(first)
    tier.moves.reset()
    assert len(first) == 3
    assert tier.moves.take()[2] == second + waiting


def test_a_slot_that_is_emptied_and_filled_again_has_an_answer_for_each(tier):
    (slot,) = tier.load(0, 4)[:1]
    tier.moves.forget(names_of(0, 4))
    assert slot in tier.moves.take()[2]
    tier.end([slot])
    tier.end([slot])
    assert tier.moves.take()[2] == [slot]  # its entry was written once more when it was read
    assert tier.moves.tables


def test_what_is_on_its_way_when_workers_die_is_emptied_once(tier):
    """A load, one that was given up, and a store."""
    slots = tier.load(0, 10)
    tier.prepare(10.5)
    table = tier.cache.allocate_table([], 1, 0)
    assert table is not None
    tier.cache.name_block(table[0], names_of(500, 1)[0])
    tier.cache.free(table)
    tier.moves.note_named(names_of(500, 1))
    tier.prepare(11.0)
    (store,) = tier.moves.take()[0]
    tier.cache.reset()
    tier.moves.reset()
    assert sorted(tier.moves.take()[2]) == sorted([*slots, store.slot])
    tier.check()


@pytest.mark.parametrize("in_gaps", [False, True])
def test_what_a_batch_loads_pushes_out_nothing_that_is_known_of_others(tier, in_gaps):
    slots = tier.load(0, 10, in_gaps=in_gaps)
    others = tier.cache.allocate_table([], 180, 0)
    assert others is not None
    for block_id, name in zip(others, names_of(1000, 180), strict=True):
        tier.cache.name_block(block_id, name)
    tier.cache.free(others)
    tier.end(slots)
    assert tier.cache.allocate_table([], 20, 0) is not None  # ten that were free, and ten more
    assert len(tier.cache.find_prefix(names_of(1000, 180))) == (180 if in_gaps else 170)


class Others(TierNeighbours):
    """Another engine that has the blocks 50 to 149, each in the slot of its number."""

    def __init__(self) -> None:
        super().__init__([TierStem("/others", 1)], bytes(32), 1)
        self.num_looks = 0
        self.write(50, names_of(50, 100))

    def look(self, *, at_once: bool = False, waits: bool = False) -> None:
        self.num_looks += 1

    def write(self, slot: int, names: list[bytes]) -> None:
        """These are in the slots from this one on now, and what was there is gone."""
        slots = self._parts[0].slots
        for gone in [name for name, used in slots.items() if slot <= used < slot + len(names)]:
            del slots[gone]
        slots.update({name: place for place, name in enumerate(names, slot)})


@pytest.fixture
def others() -> Others:
    return Others()


@pytest.fixture
def shared(others) -> Tier:
    """As ``tier``, beside others."""
    return Tier(others)


def test_what_another_engine_has_is_loaded_behind_what_is_here(shared):
    slots = shared.load(90, 20)
    assert slots[10:] == [NEIGHBOUR_SLOTS + number for number in range(100, 110)]
    assert shared.moves.neighbours_of([BlockMove(0, slots[-1], b"", 1)]) == ["/others"]
    assert shared.moves.neighbours_of([BlockMove(0, slots[0], b"", 1)]) == []
    shared.end(slots)
    assert len(shared.cache.find_prefix(names_of(90, 20))) == 20
    assert shared.moves.total_loaded == 20


def test_what_another_engine_has_is_not_stored_twice(shared):
    names = names_of(140, 20)
    table = shared.cache.allocate_table([], 20, 0)
    assert table is not None
    for block_id, name in zip(table, names, strict=True):
        shared.cache.name_block(block_id, name)
    shared.cache.free(table)
    shared.moves.note_named(names)
    shared.prepare(1.0)
    assert [move.name for move in shared.moves.stores] == names_of(150, 10)


def test_what_another_engine_has_written_over_is_computed_anew_and_no_failure(shared, caplog):
    slots = shared.load(100, 20)
    shared.end(slots[:10])
    shared.end(slots[10:11], "it is not what was written")
    shared.end(slots[11:])
    assert len(shared.cache.find_prefix(names_of(100, 20))) == 10
    assert shared.moves.total_failed == 0
    assert caplog.text == ""
    assert shared.moves.find(names_of(110, 10)) == 0


def test_nobody_looks_through_all_that_others_have_for_each_block_that_is_gone(shared, others):
    slots, before = shared.load(100, 20), others.num_looks
    shared.end(slots, "it is not what was written")
    assert others.num_looks == before
    assert shared.moves.find(names_of(100, 20)) == 0
    shared.load(120, 10)
    shared.load(130, 10)
    before = others.num_looks
    shared.moves.reset()
    assert others.num_looks == before + 1


@pytest.mark.parametrize("num_before", [0, 6, 2], ids=["all of it", "its end", "more than would be left is worth"])
def test_what_another_engine_writes_where_a_block_is_still_read_from_is_found_once_that_has_ended(shared, others, num_before):
    """Else the answer for the one would count as that for the other, whose name were on what nobody has read."""
    slots = shared.load(110, 10)
    others.write(130 - num_before, names_of(300, num_before))
    others.write(110, names_of(300 + num_before, 10))
    assert shared.moves.find(names_of(300, num_before + 10)) == (num_before if num_before >= 4 else 0)
    shared.end(slots[:5])
    assert shared.moves.find(names_of(300 + num_before, 10)) == 5
    shared.end(slots[5:])
    later = shared.load(300, num_before + 10)
    shared.end(later, "it is not what was written")
    assert not shared.cache.find_prefix(names_of(300, 1))
    assert not shared.moves.coming
    assert shared.cache.num_used_blocks == 0


def test_a_load_from_a_slot_that_another_load_has_been_read_from_and_waits_no_longer_for_is_one_of_its_own(shared, others):
    first = shared.load(110, 10)
    shared.end(first[:5])
    others.write(110, names_of(300, 5))
    second = shared.load(300, 5)
    assert second == first[:5]
    shared.end(first[5:])
    assert len(shared.cache.find_prefix(names_of(110, 10))) == 10
    shared.end(second)
    assert len(shared.cache.find_prefix(names_of(300, 5))) == 5
    assert shared.cache.num_used_blocks == 0


def test_workers_that_die_while_they_load_from_another_engine_leave_no_slot_of_ours_empty(shared):
    shared.load(90, 20)
    shared.moves.reset()
    shared.cache.reset()
    shared.check()
    assert all(slot < NEIGHBOUR_SLOTS for slot in shared.moves.emptied_slots)
    assert shared.moves.find(names_of(100, 10)) == 0, "it may be what they died of"
    assert shared.moves.find(names_of(110, 10)) == 10


def test_an_engine_that_forgets_all_forgets_what_others_have(shared):
    shared.moves.forget_all()
    assert shared.moves.find(names_of(100, 20)) == 0


def test_a_step_that_only_moves_blocks_is_no_step_of_work(tier):
    scheduler = Scheduler(SchedulerSettings(), tier.cache, 4096, moves=tier.moves)
    sampling = SamplingParams(max_tokens=1)
    scheduler.add(AddRequest(request_id="r", prompt_token_ids=list(range(3 * BLOCK_SIZE)), sampling=sampling))
    step = scheduler.schedule()
    assert step is not None
    scheduler.update(step, StepResult(step.step_number, [RequestResult("r", [1])], 0.01))
    moving = scheduler.schedule()
    assert moving is not None
    assert (len(moving.scheduled), len(moving.stores)) == (0, 3)
    scheduler.update(moving, StepResult(moving.step_number, [], 0.01, moves=[MoveResult(one.slot) for one in moving.stores]))
    assert scheduler.statistics().total_steps == 1


def test_a_request_that_is_handed_over_says_so_once_its_whole_prompt_is_kept(tier, monkeypatch):
    scheduler = Scheduler(SchedulerSettings(), tier.cache, 4096, moves=tier.moves)
    prompt, sampling = list(range(100, 100 + 3 * BLOCK_SIZE)), SamplingParams(max_tokens=9)
    for name, hands_over in (("a", True), ("b", False)):
        scheduler.add(AddRequest(request_id=name, prompt_token_ids=prompt, sampling=sampling, hands_over=hands_over))
    keeps, asked = tier.moves.keeps, list[bytes]()

    def noted(name: bytes) -> bool:
        asked.append(name)
        return bool(keeps(name))

    monkeypatch.setattr(tier.moves, "keeps", noted)

    def is_kept(num_stored: int) -> dict[str, bool]:
        step = scheduler.schedule()
        assert step is not None
        waiting.extend(move.slot for move in step.stores)
        ended = [MoveResult(waiting.pop(0)) for _ in range(num_stored)]
        results = [RequestResult(one.request_id, [1]) for one in step.scheduled]
        return {
            one.request_id: one.is_kept
            for one in scheduler.update(step, StepResult(step.step_number, results, 0.01, moves=ended))
        }

    waiting: list[int] = []
    assert is_kept(0)["a"] is False
    assert is_kept(2)["a"] is False
    assert is_kept(1) == {"a": True, "b": False}
    num_asked = len(asked)
    assert is_kept(0)["a"] is True
    assert len(asked) == num_asked, "no block is looked for with every token"
