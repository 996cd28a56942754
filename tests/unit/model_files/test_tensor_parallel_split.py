"""Heads, MLP columns and vocabulary are dealt whole, in order, and as evenly as they go; what cannot work is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.errors import ConfigError
from yeoul.model_files.describe import fake_description
from yeoul.model_files.tensor_parallel_split import (
    HeadShare,
    check_tensor_parallel_size,
    deal,
    deal_intermediate,
    deal_kv_groups,
    deal_vocabulary,
    workable_sizes,
)


def test_nine_query_heads_over_three_kv_heads_are_dealt_to_two_ranks_as_two_groups_and_one():
    assert deal_kv_groups(9, 3, 2) == [HeadShare(0, 6, 0, 2), HeadShare(6, 3, 2, 1)]


def test_one_rank_has_everything():
    assert deal_kv_groups(32, 8, 1) == [HeadShare(0, 32, 0, 8)]


def test_more_ranks_than_kv_heads_share_a_group_and_copy_its_kv_head():
    assert deal_kv_groups(4, 1, 3) == [HeadShare(0, 2, 0, 1), HeadShare(2, 1, 0, 1), HeadShare(3, 1, 0, 1)]
    assert deal_kv_groups(8, 2, 4) == [
        HeadShare(0, 2, 0, 1),
        HeadShare(2, 2, 0, 1),
        HeadShare(4, 2, 1, 1),
        HeadShare(6, 2, 1, 1),
    ]


def test_a_size_that_cannot_work_is_refused_with_the_sizes_that_can():
    with pytest.raises(ConfigError, match=r"size 4 cannot share 9 query heads over 3 KV heads.*1, 2, 3, 6, 9"):
        deal_kv_groups(9, 3, 4)
    with pytest.raises(ConfigError, match="equal groups"):
        deal_kv_groups(9, 2, 1)


@given(st.integers(1, 12), st.integers(1, 8), st.data())
def test_every_query_head_has_one_rank_and_its_own_kv_head_there(num_kv_heads: int, heads_per_group: int, data):
    num_heads = num_kv_heads * heads_per_group
    size = data.draw(st.sampled_from(workable_sizes(num_heads, num_kv_heads)))
    shares = deal_kv_groups(num_heads, num_kv_heads, size)
    assert len(shares) == size
    next_head = 0
    for share in shares:
        assert share.first_head == next_head
        assert share.num_heads >= 1
        next_head += share.num_heads
        for head in range(share.num_heads):
            local_kv_head = head // (share.num_heads // share.num_kv_heads)
            assert share.first_kv_head + local_kv_head == (share.first_head + head) // heads_per_group
    assert next_head == num_heads


@given(st.integers(1, 5000), st.integers(1, 16), st.sampled_from([1, 32, 64]))
def test_dealt_ranges_follow_each_other_and_differ_by_a_unit_at_most(total: int, size: int, unit: int):
    ranges = deal(total, size, unit)
    assert [index for part in ranges for index in part] == list(range(total))
    assert len(ranges) == size
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 2 * unit


def test_inner_columns_are_cut_between_quantisation_blocks_where_they_can_be():
    assert deal_intermediate(1536, 2) == [range(768), range(768, 1536)]
    assert deal_intermediate(1536, 4) == [range(512), range(512, 1024), range(1024, 1280), range(1280, 1536)]
    assert [len(part) for part in deal_intermediate(80, 2)] == [40, 40]


def test_the_vocabulary_is_cut_in_units():
    assert deal_vocabulary(100, 2) == [range(64), range(64, 100)]


def test_the_fake_model_takes_any_size_and_a_size_below_one_is_refused():
    check_tensor_parallel_size(fake_description(), 5)
    with pytest.raises(ConfigError, match="1 or more"):
        check_tensor_parallel_size(fake_description(), 0)
