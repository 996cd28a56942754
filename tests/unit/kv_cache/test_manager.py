"""KVCacheManager: prefixes found when they may be, tables allocated whole or not at all, blocks reused in the right order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.kv_cache.manager import KVCacheManager

HASHES = [b"one", b"two", b"three"]


def manager_with_prefix(num_named: int, *, num_blocks: int = 8) -> tuple[KVCacheManager, list[int]]:
    cache = KVCacheManager(num_blocks, block_size=4)
    table = cache.allocate_table([], 3, 0)
    assert table is not None
    for block_id, block_hash in zip(table, HASHES[:num_named], strict=False):
        cache.name_block(block_id, block_hash)
    return cache, table


def test_a_prefix_is_found_as_far_as_it_is_known():
    cache, table = manager_with_prefix(2)
    assert cache.find_prefix(HASHES) == table[:2]
    assert cache.find_prefix([b"other", *HASHES]) == []


def test_a_prefix_in_the_free_list_is_taken_out_of_it_and_not_overwritten():
    cache, table = manager_with_prefix(2, num_blocks=4)
    cache.free(table)
    again = cache.allocate_table(table[:2], 4, 0)
    assert again is not None
    assert again[:2] == table[:2]
    assert cache.num_free_blocks == 0
    cache.check_invariants({"a": again})


def test_a_freed_block_keeps_its_name_until_it_is_reused():
    cache, table = manager_with_prefix(3, num_blocks=5)
    cache.free(table)
    assert cache.allocate_table([], 2, 0) is not None
    assert cache.find_prefix(HASHES) == table
    assert cache.allocate_table([], 1, 0) == table[2:]
    assert cache.find_prefix(HASHES) == table[:2]


def test_blocks_without_a_name_are_reused_first_and_the_end_of_a_table_before_its_beginning():
    cache, table = manager_with_prefix(2, num_blocks=3)
    cache.free(table)
    assert cache.allocate_table([], 3, 0) == table[::-1]


def test_the_first_of_two_blocks_with_equal_contents_gives_the_name():
    cache, table = manager_with_prefix(3)
    again = cache.allocate_table([], 3, 0)
    assert again is not None
    cache.name_block(again[0], HASHES[0])
    assert cache.find_prefix(HASHES) == table
    cache.check_invariants({"a": table, "b": again})


def test_a_table_that_does_not_fit_takes_nothing():
    cache, table = manager_with_prefix(3, num_blocks=4)
    cache.free(table)
    assert cache.allocate_table(table, 5, 0) is None
    assert cache.allocate_table(table, 4, 1) is None
    assert cache.num_free_blocks == 4
    assert cache.allocate_table(table, 3, 1) == table


def test_blocks_that_others_use_cost_no_free_ones():
    cache, table = manager_with_prefix(3, num_blocks=4)
    shared = cache.allocate_table(table, 4, 0)
    assert shared is not None
    assert cache.num_used_blocks == 4
    cache.check_invariants({"a": table, "b": shared})
    assert cache.allocate_table([], 1, 0) is None


def test_what_is_forgotten_is_not_found_and_stays_in_use():
    cache, table = manager_with_prefix(3)
    cache.forget([HASHES[1], b"never known"])
    assert cache.find_prefix(HASHES) == table[:1]
    cache.check_invariants({"a": table})


def test_after_a_reset_no_prefix_is_known():
    cache, table = manager_with_prefix(3)
    cache.free(table)
    cache.reset()
    assert cache.find_prefix(HASHES) == []
    cache.check_invariants({})


@pytest.mark.parametrize(("num_tokens", "num_blocks"), [(0, 0), (1, 1), (4, 1), (5, 2)])
def test_blocks_are_counted_up(num_tokens, num_blocks):
    assert KVCacheManager(1, 4).num_blocks_for(num_tokens) == num_blocks


def test_the_check_names_what_is_wrong():
    cache, table = manager_with_prefix(3)
    with pytest.raises(AssertionError, match="twice in the table of a"):
        cache.check_invariants({"a": [*table, table[0]]})
    with pytest.raises(AssertionError, match="shared at different places"):
        cache.check_invariants({"a": table, "b": table[::-1]})
    with pytest.raises(AssertionError, match="1 references, 0 uses"):
        cache.check_invariants({"a": table[:2]})
    cache.free(table)
    with pytest.raises(AssertionError, match="nobody uses it"):
        cache.free(table)


@given(operations=st.lists(st.tuples(st.sampled_from(["allocate", "again", "free", "name", "forget"]), st.integers(0, 5))))
def test_the_books_are_right_whatever_is_taken_given_back_named_and_forgotten(operations):
    cache, tables, names = KVCacheManager(6, block_size=4), dict[str, list[int]](), [bytes([number]) for number in range(6)]
    for place, (name, number) in enumerate(operations):
        if name in ("allocate", "again"):
            table = cache.allocate_table(cache.find_prefix(names[:number]) if name == "again" else [], number, 0)
            if table is not None:
                tables[str(place)] = table
        elif name == "forget":
            cache.forget([names[number]])
        elif tables:
            owner = list(tables)[number % len(tables)]
            if name == "free":
                cache.free(tables.pop(owner))
            else:
                for block_id, block_hash in zip(tables[owner], names, strict=False):
                    cache.name_block(block_id, block_hash)
        cache.check_invariants(tables)
