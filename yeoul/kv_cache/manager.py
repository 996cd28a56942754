"""KVCacheManager: which blocks belong to whom and which prefix is known; knows tokens only by their hashes, and no tensors.

Called by the scheduler, which keeps each request's block table (a list of block ids, the i-th for the tokens from
``i * block_size``). A freed block keeps its name until it is reused, so the free blocks are the prefix cache, least recently
used first; those that a lease keeps come after all others. Time is whatever number the scheduler says that it is.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from math import inf

from yeoul.kv_cache.block_events import BlockEvents


class KVCacheManager:
    """``num_blocks`` blocks of ``block_size`` tokens each. No method blocks or fails for lack of room: it answers None.

    At most ``max_num_leased_blocks`` free ones are kept by leases; where more would be, the longest unused are let go of the
    holder that has most of them, so that nobody's are pushed out by another's. ``events``, where there are any, hear what is
    found and what no more.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        enable_prefix_caching: bool = True,
        max_num_leased_blocks: int = 0,
        events: BlockEvents | None = None,
    ) -> None:
        assert num_blocks > 0, f"{num_blocks} blocks make no cache"
        assert block_size > 0, f"a block of {block_size} tokens holds nothing"
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.enable_prefix_caching = enable_prefix_caching
        self.max_num_leased_blocks = max_num_leased_blocks
        self.events = events
        self._num_uses = [0] * num_blocks
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))  # the first is reused next
        self._names: list[bytes | None] = [None] * num_blocks  # what has a name is computed, and may be read
        self._by_name: dict[bytes, int] = {}
        self._leased: OrderedDict[int, None] = OrderedDict()  # free ones, that are reused when there are no others
        self._leased_by: dict[str, OrderedDict[int, None]] = {}  # the same in the same order, by who holds the lease
        self._lease_ends: dict[int, float] = {}  # of those, and of used ones that will be
        self._holders: dict[int, str] = {}  # of the same
        self._next_lease_end = inf  # or some time before it

    @property
    def num_free_blocks(self) -> int:
        """Blocks that nobody uses; those with a known prefix count too."""
        return len(self._free) + len(self._leased)

    @property
    def num_used_blocks(self) -> int:
        """Blocks that some request uses."""
        return self.num_blocks - self.num_free_blocks

    @property
    def num_leased_blocks(self) -> int:
        """Free blocks that a lease keeps."""
        return len(self._leased)

    def num_blocks_for(self, num_tokens: int) -> int:
        """How many blocks hold ``num_tokens`` tokens."""
        return -(-num_tokens // self.block_size)

    def find_prefix(self, block_hashes: Iterable[bytes]) -> list[int]:
        """The blocks that hold the longest known beginning of these hashes; takes none of them."""
        block_ids: list[int] = []
        for block_hash in block_hashes:
            block_id = self._by_name.get(block_hash)
            if block_id is None:
                break
            block_ids.append(block_id)
        return block_ids

    def allocate_table(self, prefix: Sequence[int], num_blocks: int, num_blocks_to_spare: int) -> list[int] | None:
        """A table of ``num_blocks`` blocks that begins with ``prefix``; None if fewer than the spare ones would stay free."""
        num_free_in_prefix = sum(self._num_uses[block_id] == 0 for block_id in prefix)
        num_new = num_blocks - len(prefix)
        if self.num_free_blocks - num_free_in_prefix - num_new < num_blocks_to_spare:
            return None
        for block_id in prefix:
            if self._num_uses[block_id] == 0:
                if block_id in self._free:
                    del self._free[block_id]
                else:
                    self._take_leased(block_id)
            self._num_uses[block_id] += 1
        table = list(prefix)
        for _ in range(num_new):
            block_id = next(iter(self._free or self._leased))
            if self._free:
                del self._free[block_id]
            else:
                self._take_leased(block_id)
            if (name := self._names[block_id]) is not None:
                self._forget(name)
            self._num_uses[block_id] = 1
            table.append(block_id)
        return table

    def free(self, block_ids: Sequence[int], num_first: int = 0) -> None:
        """Gives a table back, its end to be reused before its beginning, and first of all what has no name.

        The last ``num_first`` of the table are reused before all others: what is known of others is not lost for them.
        """
        for block_id in reversed(block_ids):
            assert self._num_uses[block_id] > 0, f"block {block_id} is given back, but nobody uses it"
            self._num_uses[block_id] -= 1
            if self._num_uses[block_id] > 0:
                continue
            if block_id in self._lease_ends:
                self._keep(block_id)
                continue
            self._free[block_id] = None
            if self._names[block_id] is None:
                self._free.move_to_end(block_id, last=False)
        for block_id in block_ids[len(block_ids) - num_first :]:
            if block_id in self._free:
                self._free.move_to_end(block_id, last=False)

    def lease(self, block_hashes: Iterable[bytes], end: float, holder: str = "") -> None:
        """Keeps those blocks that are known by these names until ``end``, or as long as they are kept already.

        Whoever leases a block first is its ``holder``: others do not find each other's prefixes.
        """
        if self.max_num_leased_blocks == 0:
            return
        self._next_lease_end = min(self._next_lease_end, end)
        for block_hash in block_hashes:
            if (block_id := self._by_name.get(block_hash)) is not None:
                self._lease_ends[block_id] = max(end, self._lease_ends.get(block_id, end))
                self._holders.setdefault(block_id, holder)
                if block_id in self._free:
                    del self._free[block_id]
                    self._keep(block_id)

    def end_leases(self, now: float) -> None:
        """Lets go of what is kept no longer than until ``now``: from now on it is reused as if it had just been used."""
        if now < self._next_lease_end:
            return
        for block_id in [block_id for block_id, end in self._lease_ends.items() if end <= now]:
            self._let_go(block_id)
        self._next_lease_end = min(self._lease_ends.values(), default=inf)

    def name_block(self, block_id: int, block_hash: bytes) -> bool:
        """Lets others find this block, whose step is back, unless another one holds the same already: whether it was new.

        No step reads what it writes itself.
        """
        if block_hash in self._by_name:
            return False
        assert self._names[block_id] is None, f"block {block_id} has a name already"
        self._names[block_id] = block_hash
        self._by_name[block_hash] = block_id
        return True

    def forget(self, block_hashes: Iterable[bytes]) -> None:
        """Something went wrong with a request that begins so: none of these blocks is found by anybody from now on."""
        for block_hash in block_hashes:
            if block_hash in self._by_name:
                self._forget(block_hash)

    def reset(self) -> None:
        """Forgets every known prefix: the memory behind the blocks is new, or a caller wants to start from nothing."""
        self._names = [None] * self.num_blocks
        self._by_name.clear()
        self._free.update(self._leased)
        self._leased.clear()
        self._leased_by.clear()
        self._lease_ends.clear()
        self._holders.clear()
        if self.events is not None:
            self.events.note_cleared()

    def check_invariants(self, tables: Mapping[str, Sequence[int]]) -> None:
        """Raises AssertionError unless the tables of all requests account for every use of every block.

        References equal uses, free plus used is all, no block is in a table twice, and a block in two tables has the same
        place in both. What a lease keeps is free, has a name, and is not too much.
        """
        uses: Counter[int] = Counter()
        places: dict[int, int] = {}
        for request_id, table in tables.items():
            assert len(set(table)) == len(table), f"a block is twice in the table of {request_id}"
            uses.update(table)
            for place, block_id in enumerate(table):
                assert places.setdefault(block_id, place) == place, f"block {block_id} is shared at different places"
        for block_id, num_uses in enumerate(self._num_uses):
            assert num_uses == uses[block_id], f"block {block_id}: {num_uses} references, {uses[block_id]} uses"
            num_places = (block_id in self._free) + (block_id in self._leased) + (num_uses > 0)
            assert num_places == 1, f"block {block_id} is free and used, or neither"
        assert self.num_free_blocks + len(uses) == self.num_blocks, "free and used blocks are not all blocks"
        named = {block_id: name for block_id, name in enumerate(self._names) if name is not None}
        assert named == {block_id: name for name, block_id in self._by_name.items()}, "a name leads to another block"
        assert self._leased.keys() <= self._lease_ends.keys() <= named.keys(), "a lease keeps what nobody can find"
        assert not self._lease_ends.keys() & self._free.keys(), "a block that a lease should keep is reused as any other"
        assert self._holders.keys() == self._lease_ends.keys(), "a lease without a holder, or the reverse"
        held = {block_id: holder for holder, blocks in self._leased_by.items() for block_id in blocks}
        assert held == {block_id: self._holders[block_id] for block_id in self._leased}, "a lease counts for another's"
        assert all(self._leased_by.values()), "who holds nothing is still counted"
        assert len(self._leased) <= self.max_num_leased_blocks, "leases keep more than they may"
        assert self._next_lease_end <= min(self._lease_ends.values(), default=inf), "the end of a lease is overlooked"

    def _forget(self, name: bytes) -> None:
        block_id = self._by_name.pop(name)
        self._names[block_id] = None
        if self.events is not None:
            self.events.note_removed(name)
        if block_id in self._lease_ends:
            self._let_go(block_id)

    def _keep(self, block_id: int) -> None:
        """A block that is in no list now and has a lease comes into the list of those."""
        self._leased[block_id] = None
        self._leased_by.setdefault(self._holders[block_id], OrderedDict())[block_id] = None
        if len(self._leased) > self.max_num_leased_blocks:
            most = max(self._leased_by.values(), key=len)
            self._let_go(next(iter(most)))

    def _take_leased(self, block_id: int) -> None:
        """Out of the list of those that a lease keeps; the lease stays."""
        del self._leased[block_id]
        blocks = self._leased_by[self._holders[block_id]]
        del blocks[block_id]
        if not blocks:
            del self._leased_by[self._holders[block_id]]

    def _let_go(self, block_id: int) -> None:
        """Ends its lease; a free one is reused when all that are free now have been."""
        if block_id in self._leased:
            self._take_leased(block_id)
            self._free[block_id] = None
        del self._lease_ends[block_id]
        del self._holders[block_id]
