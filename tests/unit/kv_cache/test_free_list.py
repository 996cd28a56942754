"""The free list against a plain Python list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.kv_cache.free_list import Block, FreeBlockList


@given(operations=st.lists(st.tuples(st.sampled_from(["append", "append_first", "remove", "pop_first"]), st.integers(0, 7))))
def test_the_list_behaves_like_a_plain_one(operations):
    blocks = [Block(block_id) for block_id in range(8)]
    free, plain = FreeBlockList(), list[Block]()
    for name, block_id in operations:
        block = blocks[block_id]
        if name == "append" and block not in plain:
            free.append(block)
            plain.append(block)
        elif name == "append_first" and block not in plain:
            free.append_first(block)
            plain.insert(0, block)
        elif name == "remove" and block in plain:
            free.remove(block)
            plain.remove(block)
        elif name == "pop_first" and plain:
            assert free.pop_first() is plain.pop(0)
        assert list(free) == plain
        assert len(free) == len(plain)


def test_our_own_mistakes_are_caught():
    free, block = FreeBlockList(), Block(0)
    with pytest.raises(AssertionError, match="no block is free"):
        free.pop_first()
    with pytest.raises(AssertionError, match="block 0 is not free"):
        free.remove(block)
    free.append(block)
    with pytest.raises(AssertionError, match="block 0 is free already"):
        free.append(block)
