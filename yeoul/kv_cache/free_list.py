"""Block, and the list of free ones in the order of their reuse; knows nothing of requests or hashes. Called by BlockPool.

The list is linked through the blocks themselves, so that a block in its middle is taken out in constant time when a prefix
is found again.
"""

from __future__ import annotations

from collections.abc import Iterator


class Block:
    """One block of the cache: who uses it, what is known of its contents, and its neighbours while it is free.

    ``block_hash`` is None while the contents have no name. What has a name is computed, and may be read.
    """

    __slots__ = ("block_hash", "block_id", "next_free", "num_references", "previous_free")

    def __init__(self, block_id: int) -> None:
        self.block_id = block_id
        self.num_references = 0
        self.block_hash: bytes | None = None
        self.previous_free: Block | None = None
        self.next_free: Block | None = None


class FreeBlockList:
    """A doubly linked list of free blocks: the first is reused next. Every operation takes constant time."""

    def __init__(self) -> None:
        self._border = Block(-1)  # stands before the first and after the last, so that no link is ever None
        self._border.previous_free = self._border.next_free = self._border
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Block]:
        block = self._border.next_free
        while block is not None and block is not self._border:
            yield block
            block = block.next_free

    def append(self, block: Block) -> None:
        """Puts ``block`` last: its contents are kept for as long as possible."""
        self._insert_before(self._border, block)

    def append_first(self, block: Block) -> None:
        """Puts ``block`` first: its contents are worth nothing."""
        following = self._border.next_free
        assert following is not None
        self._insert_before(following, block)

    def remove(self, block: Block) -> None:
        """Takes ``block`` out, wherever it is."""
        before, following = block.previous_free, block.next_free
        assert before is not None, f"block {block.block_id} is not free"
        assert following is not None, f"block {block.block_id} is not free"
        before.next_free = following
        following.previous_free = before
        block.previous_free = block.next_free = None
        self._length -= 1

    def pop_first(self) -> Block:
        """Takes out the block to be reused next; the caller knows that there is one."""
        block = self._border.next_free
        assert block is not None
        assert block is not self._border, "no block is free"
        self.remove(block)
        return block

    def _insert_before(self, following: Block, block: Block) -> None:
        assert block.next_free is None, f"block {block.block_id} is free already"
        before = following.previous_free
        assert before is not None
        block.previous_free, block.next_free = before, following
        before.next_free = following.previous_free = block
        self._length += 1
