"""All blocks of the cache: free or used, and which of them hold a known prefix; knows nothing of requests or tokens.

Called by KVCacheManager. A freed block keeps its hash until it is reused, so the free list is the prefix cache, least
recently used first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from yeoul.kv_cache.free_list import Block, FreeBlockList


class BlockPool:
    """``num_blocks`` blocks with the ids 0 to ``num_blocks - 1``."""

    def __init__(self, num_blocks: int) -> None:
        self.blocks = [Block(block_id) for block_id in range(num_blocks)]
        self._free = FreeBlockList()
        self._by_hash: dict[bytes, Block] = {}
        for block in self.blocks:
            self._free.append(block)

    @property
    def num_free_blocks(self) -> int:
        """How many blocks nobody uses, those that hold a known prefix included."""
        return len(self._free)

    def find(self, block_hash: bytes) -> Block | None:
        """The block whose contents have this hash."""
        return self._by_hash.get(block_hash)

    def take_new(self) -> int:
        """Takes the free block that was longest unused, forgets what it held, and returns its id."""
        block = self._free.pop_first()
        self._forget(block)
        block.num_references = 1
        return block.block_id

    def take_known(self, block_ids: Sequence[int]) -> None:
        """Adds a use to each of these blocks, free or not; they keep their contents."""
        for block_id in block_ids:
            block = self.blocks[block_id]
            if block.num_references == 0:
                self._free.remove(block)
            block.num_references += 1

    def release(self, block_ids: Sequence[int]) -> None:
        """Ends one use of each of these blocks. Of a table, the end is reused before the beginning."""
        for block_id in reversed(block_ids):
            block = self.blocks[block_id]
            assert block.num_references > 0, f"block {block_id} is released, but nobody uses it"
            block.num_references -= 1
            if block.num_references == 0:
                if block.block_hash is None:
                    self._free.append_first(block)
                else:
                    self._free.append(block)

    def name(self, block_id: int, block_hash: bytes) -> None:
        """Names the contents of this block, unless another block holds the same already."""
        if block_hash not in self._by_hash:
            block = self.blocks[block_id]
            assert block.block_hash is None, f"block {block_id} has a name already"
            block.block_hash = block_hash
            self._by_hash[block_hash] = block

    def forget(self, block_hash: bytes) -> None:
        """Takes this name from whichever block has it; uses stay."""
        block = self._by_hash.get(block_hash)
        if block is not None:
            self._forget(block)

    def forget_all(self) -> None:
        """Takes every name; uses stay."""
        for block in list(self._by_hash.values()):
            self._forget(block)

    def check_invariants(self, num_uses: Counter[int]) -> None:
        """Raises AssertionError unless the pool is whole and each block has the number of uses given."""
        free = list(self._free)
        assert len(free) == len(self._free), "the free list has lost or gained blocks"
        free_ids = {block.block_id for block in free}
        assert len(free_ids) == len(free), "a block is free twice"
        for block in self.blocks:
            uses = num_uses[block.block_id]
            assert block.num_references == uses, f"block {block.block_id}: {block.num_references} references, {uses} uses"
            assert (block.block_id in free_ids) == (uses == 0), f"block {block.block_id} is free and used, or neither"
            if block.block_hash is not None:
                assert self._by_hash.get(block.block_hash) is block, f"block {block.block_id} is not found by its hash"
        num_named = sum(block.block_hash is not None for block in self.blocks)
        assert len(self._by_hash) == num_named, "a hash leads to a block that does not have it"

    def _forget(self, block: Block) -> None:
        if block.block_hash is not None:
            del self._by_hash[block.block_hash]
            block.block_hash = None
