"""Slots of the tier below the cache: each in one state, the longest unused reused first, nothing found that is not there."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from yeoul.kv_cache.tier_file import Entry
from yeoul.kv_cache.tier_index import TierIndex


def name_of(number: int) -> bytes:
    return bytes([number]) * 32


def begin(index: TierIndex, number: int) -> int:
    slot = index.begin_filling(name_of(number))
    assert slot is not None
    return slot


def fill(index: TierIndex, *numbers: int) -> None:
    for number in numbers:
        index.end(begin(index, number), is_good=True)


def filled(num_slots: int, *numbers: int) -> TierIndex:
    index = TierIndex(num_slots)
    fill(index, *numbers)
    return index


def found(index: TierIndex, *numbers: int) -> int:
    return len(index.find([name_of(number) for number in numbers]))


def test_a_block_is_found_once_it_has_come():
    index = TierIndex(2)
    slot = begin(index, 1)
    assert index.has(name_of(1))
    assert found(index, 1) == 0
    index.end(slot, is_good=True)
    assert found(index, 1) == 1


def test_a_block_that_has_not_come_leaves_its_slot_empty():
    index = TierIndex(1)
    index.end(begin(index, 1), is_good=False)
    assert not index.has(name_of(1))
    assert index.begin_filling(name_of(2)) == 0


def test_the_longest_unused_makes_room():
    index = filled(3, 1, 2, 3)
    index.touch([name_of(1)])
    index.end(index.begin_reading(name_of(2)), is_good=True)
    fill(index, 4)
    assert [found(index, number) for number in (1, 2, 3, 4)] == [1, 1, 0, 1]


def test_what_is_being_read_keeps_its_slot():
    index = filled(1, 1)
    slot = index.begin_reading(name_of(1))
    assert index.begin_filling(name_of(2)) is None
    index.end(slot, is_good=True)
    assert index.begin_filling(name_of(2)) == slot


def test_a_damaged_block_is_found_no_more():
    index = filled(1, 1)
    index.end(index.begin_reading(name_of(1)), is_good=False)
    assert not index.has(name_of(1))


def test_the_longest_beginning_is_found():
    assert found(filled(4, 1, 2, 4), 1, 2, 3, 4) == 2


def test_what_is_forgotten_on_its_way_is_not_found_when_it_comes():
    index = TierIndex(1)
    slot = begin(index, 1)
    assert index.forget([name_of(1)]) == [slot]
    index.end(slot, is_good=True)
    assert found(index, 1) == 0
    assert index.begin_filling(name_of(1)) == slot


def test_entries_of_an_earlier_process_are_known_in_their_order():
    entries = [Entry(0, name_of(1), 5), Entry(1, name_of(2), 3), Entry(2, name_of(1), 9), Entry(7, name_of(3), 4)]
    index = TierIndex(4, entries)
    assert index.find([name_of(1)]) == [2]  # the later one; the older one's slot is empty
    assert found(index, 2) == 1
    assert not index.has(name_of(3))  # beyond the last slot
    index.check_invariants()
    assert index.next_stamp() == 10
    fill(index, 4, 5, 6)
    assert not index.has(name_of(2))


def fail(index: TierIndex, number: int) -> int:
    slot = begin(index, number)
    index.end(slot, is_good=False)
    assert not index.has(name_of(number))
    return slot


def test_where_the_disk_is_full_the_longest_unused_makes_room_though_slots_are_empty():
    index = filled(6, 1, 2, 3)
    fail(index, 4)
    fill(index, 4, 5)
    assert [found(index, number) for number in (1, 2, 3, 4, 5)] == [0, 0, 1, 1, 1]


def test_a_full_disk_is_asked_now_and_then_whether_there_is_room_again():
    index = filled(6, 1, 2, 3)
    fail(index, 4)
    for number in range(100):
        fill(index, 4 + number)
    assert len(index) == 3
    fail(index, 104)
    assert len(index) == 3
    for number in range(100):
        fill(index, 104 + number)
    fill(index, 204, 205, 206)
    assert len(index) == 6


def test_a_disk_that_refuses_everything_costs_no_more_than_one_block():
    index = filled(6, 1, 2, 3)
    for number in range(4, 250):
        fail(index, number)
    assert len(index) == 2
    fill(index, 250)
    assert len(index) == 3


def test_where_nothing_is_left_to_reuse_an_empty_slot_is_tried():
    index = TierIndex(2)
    fail(index, 1)
    fill(index, 1)
    assert found(index, 1) == 1


class IndexLife(RuleBasedStateMachine):
    """Whatever comes in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.index = TierIndex(4)
        self.under_way: list[int] = []

    @rule(number=st.integers(1, 7))
    def fill(self, number):
        if not self.index.has(name_of(number)) and (slot := self.index.begin_filling(name_of(number))) is not None:
            assert slot not in self.under_way
            self.under_way.append(slot)

    @rule(number=st.integers(1, 7))
    def read(self, number):
        slots = self.index.find([name_of(number)])
        if slots and slots[0] not in self.under_way:
            self.under_way.append(self.index.begin_reading(name_of(number)))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), is_good=st.booleans())
    def end(self, data, is_good):
        slot = data.draw(st.sampled_from(self.under_way))
        self.under_way.remove(slot)
        self.index.end(slot, is_good=is_good)

    @rule(numbers=st.lists(st.integers(1, 7)))
    def forget(self, numbers):
        self.index.forget([name_of(number) for number in numbers])
        assert not any(self.index.has(name_of(number)) for number in numbers)

    @rule(numbers=st.lists(st.integers(1, 7)))
    def touch(self, numbers):
        self.index.touch([name_of(number) for number in numbers])

    @invariant()
    def is_in_order(self):
        self.index.check_invariants()
        assert len(self.index.names()) <= 4


TestIndexLife = IndexLife.TestCase
