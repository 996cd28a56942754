"""KVCacheManager: which blocks belong to whom and which prefix is known; knows tokens only by their hashes, and no tensors.

Called by the scheduler, which keeps each request's block table (a list of block ids, the i-th for the tokens from
``i * block_size``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from yeoul.kv_cache.block_pool import BlockPool


class KVCacheManager:
    """``num_blocks`` blocks of ``block_size`` tokens each. No method blocks or fails for lack of room: it answers None."""

    def __init__(self, num_blocks: int, block_size: int, enable_prefix_caching: bool = True) -> None:
        assert num_blocks > 0, f"{num_blocks} blocks make no cache"
        assert block_size > 0, f"a block of {block_size} tokens holds nothing"
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.enable_prefix_caching = enable_prefix_caching
        self._pool = BlockPool(num_blocks)

    @property
    def num_free_blocks(self) -> int:
        """Blocks that nobody uses; those with a known prefix count too."""
        return self._pool.num_free_blocks

    @property
    def num_used_blocks(self) -> int:
        """Blocks that some request uses."""
        return self.num_blocks - self._pool.num_free_blocks

    def num_blocks_for(self, num_tokens: int) -> int:
        """How many blocks hold ``num_tokens`` tokens."""
        return -(-num_tokens // self.block_size)

    def find_prefix(self, block_hashes: Iterable[bytes]) -> list[int]:
        """The blocks that hold the longest known beginning of these hashes; takes none of them."""
        block_ids: list[int] = []
        for block_hash in block_hashes:
            block = self._pool.find(block_hash)
            if block is None:
                break
            block_ids.append(block.block_id)
        return block_ids

    def allocate_table(self, prefix: Sequence[int], num_blocks: int, num_blocks_to_spare: int) -> list[int] | None:
        """A table of ``num_blocks`` blocks that begins with ``prefix``; None if fewer than the spare ones would stay free."""
        num_free_in_prefix = sum(self._pool.blocks[block_id].num_references == 0 for block_id in prefix)
        num_new = num_blocks - len(prefix)
        if self._pool.num_free_blocks - num_free_in_prefix - num_new < num_blocks_to_spare:
            return None
        self._pool.take_known(prefix)
        return [*prefix, *(self._pool.take_new() for _ in range(num_new))]

    def free(self, block_ids: Sequence[int]) -> None:
        """Gives a table back. What its full blocks hold stays known until they are reused."""
        self._pool.release(block_ids)

    def name_block(self, block_id: int, block_hash: bytes) -> None:
        """Lets others find this block, whose step is back: no step reads what it writes itself."""
        self._pool.name(block_id, block_hash)

    def forget(self, block_hashes: Iterable[bytes]) -> None:
        """Something went wrong with a request that begins so: none of these blocks is found by anybody from now on."""
        for block_hash in block_hashes:
            self._pool.forget(block_hash)

    def reset(self) -> None:
        """Forgets every known prefix: the memory behind the blocks is new, or a caller wants to start from nothing."""
        self._pool.forget_all()

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
        self._pool.check_invariants(uses)
        assert self.num_free_blocks + len(uses) == self.num_blocks, "free and used blocks are not all blocks"
