"""The pool: reuse in the right order, names kept until reuse, and nothing trusted that should not be."""

from __future__ import annotations

from collections import Counter

import pytest

from yeoul.kv_cache.block_pool import BlockPool


def test_a_freed_block_keeps_its_name_until_it_is_reused():
    pool = BlockPool(2)
    block_id = pool.take_new()
    pool.name(block_id, b"prefix")
    pool.release([block_id])
    assert pool.find(b"prefix") is pool.blocks[block_id]
    pool.take_new()
    assert pool.find(b"prefix") is not None
    assert pool.take_new() == block_id
    assert pool.find(b"prefix") is None


def test_blocks_without_a_name_are_reused_first_and_the_end_of_a_table_before_its_beginning():
    pool = BlockPool(4)
    table = [pool.take_new() for _ in range(4)]
    for block_id in table[:3]:
        pool.name(block_id, bytes([block_id]))
    pool.release(table)
    assert [pool.take_new() for _ in range(4)] == [table[3], table[2], table[1], table[0]]


def test_a_block_of_two_users_is_free_when_both_have_left():
    pool = BlockPool(1)
    block_id = pool.take_new()
    pool.take_known([block_id])
    pool.release([block_id])
    assert pool.num_free_blocks == 0
    pool.release([block_id])
    assert pool.num_free_blocks == 1


def test_the_first_of_two_blocks_with_equal_contents_gives_the_name():
    pool = BlockPool(2)
    first, second = pool.take_new(), pool.take_new()
    pool.name(first, b"prefix")
    pool.name(second, b"prefix")
    found = pool.find(b"prefix")
    assert found is not None
    assert found.block_id == first
    pool.check_invariants(Counter([first, second]))


def test_a_name_that_is_forgotten_is_gone_and_no_other():
    pool = BlockPool(3)
    for number in range(3):
        pool.name(pool.take_new(), bytes([number]))
    pool.forget(b"\1")
    pool.forget(b"never known")
    assert pool.find(b"\0") is not None
    assert pool.find(b"\1") is None
    assert pool.find(b"\2") is not None


def test_the_check_finds_a_lost_reference():
    pool = BlockPool(2)
    block_id = pool.take_new()
    pool.check_invariants(Counter([block_id]))
    with pytest.raises(AssertionError, match="1 references, 0 uses"):
        pool.check_invariants(Counter())
    with pytest.raises(AssertionError, match="nobody uses it"):
        pool.release([block_id, block_id])
