"""KVCacheManager: which blocks belong to whom and which prefix is known; knows tokens only by their hashes, and no tensors.

Called by the scheduler, which keeps each request's block table (a list of block ids, the i-th for the tokens from
``i * block_size``). A freed block keeps its name until it is reused, so the free blocks are the prefix cache, least recently
used first.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence


class KVCacheManager:
    """``num_blocks`` blocks of ``block_size`` tokens each. No method blocks or fails for lack of room: it answers None."""

    def __init__(self, num_blocks: int, block_size: int, enable_prefix_caching: bool = True) -> None:
        assert num_blocks > 0, f"{num_blocks} blocks make no cache"
        assert block_size > 0, f"a block of {block_size} tokens holds nothing"
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.enable_prefix_caching = enable_prefix_caching
        self._num_uses = [0] * num_blocks
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))  # the first is reused next
        self._names: list[bytes | None] = [None] * num_blocks  # what has a name is computed, and may be read
        self._by_name: dict[bytes, int] = {}

    @property
    def num_free_blocks(self) -> int:
        """Blocks that nobody uses; those with a known prefix count too."""
        return len(self._free)

    @property
    def num_used_blocks(self) -> int:
        """Blocks that some request uses."""
        return self.num_blocks - len(self._free)

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
        if len(self._free) - num_free_in_prefix - num_new < num_blocks_to_spare:
            return None
        for block_id in prefix:
            if self._num_uses[block_id] == 0:
                del self._free[block_id]
            self._num_uses[block_id] += 1
        table = list(prefix)
        for _ in range(num_new):
            block_id, _ = self._free.popitem(last=False)
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
            if self._num_uses[block_id] == 0:
                self._free[block_id] = None
                if self._names[block_id] is None:
                    self._free.move_to_end(block_id, last=False)
        for block_id in block_ids[len(block_ids) - num_first :]:
            if self._num_uses[block_id] == 0:
                self._free.move_to_end(block_id, last=False)

    def name_block(self, block_id: int, block_hash: bytes) -> None:
        """Lets others find this block, whose step is back, unless another one holds the same already.

        No step reads what it writes itself.
        """
        if block_hash not in self._by_name:
            assert self._names[block_id] is None, f"block {block_id} has a name already"
            self._names[block_id] = block_hash
            self._by_name[block_hash] = block_id

    def forget(self, block_hashes: Iterable[bytes]) -> None:
        """Something went wrong with a request that begins so: none of these blocks is found by anybody from now on."""
        for block_hash in block_hashes:
            if block_hash in self._by_name:
                self._forget(block_hash)

    def reset(self) -> None:
        """Forgets every known prefix: the memory behind the blocks is new, or a caller wants to start from nothing."""
        self._names = [None] * self.num_blocks
        self._by_name.clear()

    def check_invariants(self, tables: Mapping[str, Sequence[int]]) -> None:
        """Raises AssertionError unless the tables of all requests account for every use of every block.

        References equal uses, free plus used is all, no block is in a table twice, and a block in two tables has the same
        place in both.
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
            assert (block_id in self._free) == (num_uses == 0), f"block {block_id} is free and used, or neither"
        assert self.num_free_blocks + len(uses) == self.num_blocks, "free and used blocks are not all blocks"
        named = {block_id: name for block_id, name in enumerate(self._names) if name is not None}
        assert named == {block_id: name for name, block_id in self._by_name.items()}, "a name leads to another block"

    def _forget(self, name: bytes) -> None:
        self._names[self._by_name.pop(name)] = None
