"""Names of blocks: equal for equal prefixes, different for everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.kv_cache.block_hash import MAX_TOKEN_ID, extend_hashes, root_hash

TOKEN_LISTS = st.lists(st.integers(0, 3), max_size=12)


def hashes_of(token_ids: list[int], block_size: int, extra_keys: tuple[str, ...] = ()) -> list[bytes]:
    hashes: list[bytes] = []
    extend_hashes(hashes, root_hash(extra_keys), token_ids, block_size, len(token_ids) // block_size)
    return hashes


@given(first=TOKEN_LISTS, second=TOKEN_LISTS, block_size=st.integers(1, 4))
def test_two_prompts_share_a_hash_exactly_where_their_beginnings_are_equal(first, second, block_size):
    for index, (one, other) in enumerate(zip(hashes_of(first, block_size), hashes_of(second, block_size), strict=False)):
        end = (index + 1) * block_size
        assert (one == other) == (first[:end] == second[:end])


@given(token_ids=st.lists(st.integers(0, MAX_TOKEN_ID), max_size=20), cut=st.integers(0, 20))
def test_hashes_extended_in_two_parts_are_those_of_one(token_ids, cut):
    hashes: list[bytes] = []
    extend_hashes(hashes, root_hash(), token_ids, 2, min(cut, len(token_ids)) // 2)
    extend_hashes(hashes, root_hash(), token_ids, 2, len(token_ids) // 2)
    assert hashes == hashes_of(token_ids, 2)


@given(one=st.lists(st.text(max_size=3), max_size=3), other=st.lists(st.text(max_size=3), max_size=3))
def test_roots_are_equal_only_for_equal_keys(one, other):
    assert (root_hash(one) == root_hash(other)) == (one == other)


def test_a_salt_separates_equal_prompts():
    assert not set(hashes_of([1, 2, 3, 4], 2, ("a",))) & set(hashes_of([1, 2, 3, 4], 2, ("b",)))


def test_a_salt_with_half_a_surrogate_pair_is_hashed_like_any_other():
    assert root_hash(("\ud800",)) != root_hash(("\udc00",))


def test_a_token_id_that_does_not_fit_is_an_error_and_never_wraps_around():
    with pytest.raises(OverflowError):
        hashes_of([MAX_TOKEN_ID + 1], 1)
