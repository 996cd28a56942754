"""BlockEvents: what a router hears of, what it does not, in which order; that it is enough, the lives of engines show."""

from __future__ import annotations

import msgspec

from tests.kv_event_reader import PrefixIndex
from yeoul.kv_cache.block_events import BlockEvents
from yeoul.kv_cache.block_hash import extend_hashes, root_hash
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.messages.kv_events import AllBlocksCleared, BlockRemoved, BlockStored, KVEventBatch

TOKENS = list(range(100, 116))


def hashes_of(token_ids: list[int]) -> list[bytes]:
    hashes: list[bytes] = []
    extend_hashes(hashes, root_hash(), token_ids, 4, len(token_ids) // 4)
    return hashes


def number(name: bytes) -> int:
    return int.from_bytes(name[-8:], "big")


def test_a_new_cache_says_that_it_has_nothing():
    events = BlockEvents(4)
    assert events.take() == [AllBlocksCleared()]
    assert events.take() == []


def test_blocks_that_follow_each_other_are_one_event_with_their_tokens_and_the_parent_of_the_first():
    events, hashes = BlockEvents(4), hashes_of(TOKENS)
    events.take()
    events.note_stored(hashes, TOKENS, 1, [True, True])
    (stored,) = events.take()
    assert isinstance(stored, BlockStored)
    assert stored.block_hashes == [number(hashes[1]), number(hashes[2])]
    assert stored.parent_block_hash == number(hashes[0])
    assert stored.token_ids == TOKENS[4:12]
    assert (stored.block_size, stored.medium) == (4, "GPU")


def test_a_block_that_another_one_holds_already_is_told_of_once():
    events, hashes = BlockEvents(4), hashes_of(TOKENS)
    events.take()
    events.note_stored(hashes, TOKENS, 0, [True, False, False, True])
    told = events.take()
    assert [event.parent_block_hash for event in told if isinstance(event, BlockStored)] == [None, number(hashes[2])]
    assert [event.block_hashes for event in told if isinstance(event, BlockStored)] == [
        [number(hashes[0])],
        [number(hashes[3])],
    ]
    events.note_stored(hashes, TOKENS, 0, [False] * 4)
    assert events.take() == []


def test_what_goes_in_a_row_goes_in_one_event_and_nothing_overtakes_it():
    events, hashes = BlockEvents(4), hashes_of(TOKENS)
    events.take()
    events.note_stored(hashes, TOKENS, 0, [True] * 3)
    events.note_removed(hashes[2])
    events.note_removed(hashes[1])
    events.note_stored(hashes, TOKENS, 1, [True])
    events.note_removed(hashes[1])
    kinds = [(type(event), getattr(event, "block_hashes", None)) for event in events.take()]
    assert kinds == [
        (BlockStored, [number(name) for name in hashes[:3]]),
        (BlockRemoved, [number(hashes[2]), number(hashes[1])]),
        (BlockStored, [number(hashes[1])]),
        (BlockRemoved, [number(hashes[1])]),
    ]


def test_nobody_hears_of_the_end_of_what_he_was_not_told_of():
    events = BlockEvents(4)
    events.take()
    events.note_removed(root_hash(("a tenant",)))
    assert events.take() == []


def test_a_cache_tells_of_what_it_reuses_forgets_and_resets():
    events = BlockEvents(4)
    cache, index, hashes = KVCacheManager(4, 4, events=events), PrefixIndex(), hashes_of(TOKENS)
    table = cache.allocate_table([], 3, 0)
    assert table is not None
    is_new = [cache.name_block(block_id, name) for block_id, name in zip(table, hashes[:3], strict=True)]
    events.note_stored(hashes, TOKENS, 0, is_new)

    def known() -> int:
        index.apply(msgspec.msgpack.encode(KVEventBatch(0.0, events.take())))
        return index.num_known_blocks(TOKENS)

    assert known() == 3
    cache.free(table)
    assert known() == 3
    again = cache.allocate_table([], 2, 0)
    assert known() == 2  # one was free without a name, the end of the table was reused
    cache.forget([hashes[1]])
    assert known() == 1
    cache.reset()
    assert known() == 0
    assert again is not None
