"""Prefixes: finds the blocks that a request need not compute, and names those that it fills; owns no block.

Called by Scheduler; the cache knows blocks by hashes, the request has them.
"""

from __future__ import annotations

from yeoul.kv_cache.manager import KVCacheManager, PrefixHit
from yeoul.scheduler.request import Request


class Prefixes:
    """Of one cache; does nothing where its prefix caching is off."""

    def __init__(self, cache: KVCacheManager) -> None:
        self._cache = cache

    def find(self, request: Request) -> PrefixHit:
        """The blocks that ``request`` need not compute; at least its last token is always computed."""
        if not (self._cache.enable_prefix_caching and request.may_use_known_prefix):
            return PrefixHit([], is_pending=False)
        block_size = self._cache.block_size
        return self._cache.find_prefix(request.hashes_of((len(request.token_ids) - 1) // block_size, block_size))

    def name_full_blocks(self, request: Request, step_number: int) -> None:
        """Lets others find the blocks that this step fills, once it is back."""
        if self._cache.enable_prefix_caching:
            num_full = min(request.num_computed_tokens, len(request.token_ids)) // self._cache.block_size
            hashes = request.hashes_of(num_full, self._cache.block_size)
            for index in range(request.num_named_blocks, len(hashes)):
                self._cache.name_block(request.block_ids[index], hashes[index], step_number)
            request.num_named_blocks = len(hashes)
