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


def manager_with_lease(num_blocks: int, most: int, end: float = 10.0) -> tuple[KVCacheManager, list[int]]:
    """Three known blocks, of which two are leased, and all are free."""
    cache = KVCacheManager(num_blocks, 4, max_num_leased_blocks=most)
    table = cache.allocate_table([], 3, 0)
    assert table is not None
    for block_id, block_hash in zip(table, HASHES, strict=True):
        cache.name_block(block_id, block_hash)
    cache.lease(HASHES[:2], end)
    cache.free(table)
    cache.check_invariants({})
    return cache, table


def test_what_is_leased_is_reused_when_there_is_nothing_else():
    cache, table = manager_with_lease(6, 4)
    assert cache.num_leased_blocks == 2
    assert cache.num_free_blocks == 6
    others = cache.allocate_table([], 4, 0)
    assert others is not None
    assert not {*others} & {*table[:2]}
    cache.free(others)
    assert cache.find_prefix(HASHES) == table[:2]
    everything = cache.allocate_table([], 6, 0)
    assert everything is not None
    assert everything[4:] == [table[1], table[0]], "its end before its beginning"
    assert cache.num_leased_blocks == 0
    cache.check_invariants({"a": everything})


def test_leases_keep_no_more_than_their_share_and_of_a_prefix_its_beginning():
    cache, table = manager_with_lease(6, 1)
    assert cache.num_leased_blocks == 1
    cache.free(cache.allocate_table([], 5, 0) or [])
    assert cache.find_prefix(HASHES) == table[:1]


def test_without_a_share_there_are_no_leases():
    cache, _ = manager_with_lease(6, 0)
    assert cache.num_leased_blocks == 0
    assert cache.allocate_table([], 6, 0) is not None


def test_a_lease_ends_at_its_end_and_not_before():
    cache, table = manager_with_lease(6, 4, end=10.0)
    cache.end_leases(9.9)
    assert cache.num_leased_blocks == 2
    cache.end_leases(10.0)
    assert cache.num_leased_blocks == 0
    assert cache.find_prefix(HASHES) == table, "it is known until it is reused"
    cache.check_invariants({})


def test_a_lease_grows_and_never_shrinks():
    cache, _ = manager_with_lease(6, 4, end=10.0)
    cache.lease(HASHES[:1], 20.0)
    cache.lease(HASHES[:2], 5.0)
    cache.end_leases(15.0)
    assert cache.num_leased_blocks == 1
    cache.check_invariants({})


def test_a_block_that_is_free_and_known_can_be_leased():
    cache, table = manager_with_lease(6, 4)
    cache.lease(HASHES, 30.0)
    assert cache.num_leased_blocks == 3
    again = cache.allocate_table(table, 3, 0)
    assert again == table
    assert cache.num_leased_blocks == 0, "it is in use"
    cache.free(again, 2)
    assert cache.num_leased_blocks == 3, "a lease is stronger than the haste of who fills gaps"
    cache.check_invariants({})


def leased_by(cache: KVCacheManager) -> dict[str, int]:
    return {holder: len(blocks) for holder, blocks in cache._leased_by.items()}


def keep(cache: KVCacheManager, names: list[bytes], holder: str) -> None:
    """A request of the holder comes, is computed, and leaves a lease on all that it had."""
    table = cache.allocate_table([], len(names), 0)
    assert table is not None
    for block_id, name in zip(table, names, strict=True):
        cache.name_block(block_id, name)
    cache.lease(names, 10.0, holder)
    cache.free(table)
    cache.check_invariants({})


def test_nobodys_leases_are_pushed_out_by_who_holds_more():
    cache = KVCacheManager(40, 4, max_num_leased_blocks=6)
    names = [bytes([number]) for number in range(30)]
    keep(cache, names[:2], "few")
    keep(cache, names[2:12], "many")
    assert leased_by(cache) == {"few": 2, "many": 4}
    assert cache.find_prefix(names[2:12])[:4], "of a prefix its beginning"
    keep(cache, names[12:22], "third")
    assert leased_by(cache) == {"few": 2, "many": 2, "third": 2}
    cache.end_leases(10.0)
    assert leased_by(cache) == {}
    keep(cache, names[22:], "many")
    assert leased_by(cache) == {"many": 6}, "who is alone has all of them"


@given(
    most=st.integers(0, 4),
    operations=st.lists(
        st.tuples(
            st.sampled_from(["allocate", "again", "free", "free first", "name", "forget", "lease", "time", "reset"]),
            st.integers(0, 5),
        )
    ),
)
def test_the_books_are_right_whatever_is_taken_given_back_named_leased_and_forgotten(most, operations):
    cache, tables = KVCacheManager(6, block_size=4, max_num_leased_blocks=most), dict[str, list[int]]()
    names, now = [bytes([number]) for number in range(6)], 0
    for place, (name, number) in enumerate(operations):
        if name in ("allocate", "again"):
            prefix = cache.find_prefix(names[:number]) if name == "again" else []
            num_free, num_needed = cache.num_free_blocks, number - len(prefix)
            kept = set(cache._leased) - set(prefix)
            num_others = num_free - cache.num_leased_blocks - sum(block_id in cache._free for block_id in prefix)
            table = cache.allocate_table(prefix, number, 0)
            if table is not None:
                tables[str(place)] = table
                assert len(kept & set(table)) == max(0, num_needed - num_others), "leased blocks are taken last"
            else:
                assert num_needed > num_free - sum(block_id in kept or block_id in cache._free for block_id in prefix)
        elif name == "forget":
            cache.forget([names[number]])
        elif name == "lease":
            cache.lease(names[:number], now + number, "ab"[place % 2])
        elif name == "time":
            now += number
            cache.end_leases(now)
            assert all(end > now for end in cache._lease_ends.values())
        elif name == "reset" and not tables:
            cache.reset()
            assert cache.num_leased_blocks == 0
        elif tables:
            owner = list(tables)[number % len(tables)]
            if name.startswith("free"):
                cache.free(tables.pop(owner), number % 2 if name == "free first" else 0)
            elif name == "name":
                for block_id, block_hash in zip(tables[owner], names, strict=False):
                    cache.name_block(block_id, block_hash)
        cache.check_invariants(tables)
