"""Prefixes: finds the blocks that a request need not compute, and names those that it has filled; owns no block.

Called by Scheduler and AnswerReader; the cache knows blocks by hashes, the request has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from yeoul.kv_cache.manager import KVCacheManager
from yeoul.scheduler.plan import StepPlan
from yeoul.scheduler.request import Request


class PrefixHit(NamedTuple):
    """Blocks that hold the beginning of a prompt. ``is_coming``: one of the given steps computes the next one too."""

    block_ids: list[int]
    is_coming: bool


class Prefixes:
    """Of one cache; does nothing where its prefix caching is off."""

    def __init__(self, cache: KVCacheManager) -> None:
        self._cache = cache
        self.block_size = cache.block_size
        self._last_found: Request | None = None

    def find(self, request: Request, plans: Sequence[StepPlan]) -> PrefixHit:
        """The blocks that ``request`` need not compute; at least its last token is always computed."""
        if not (self._cache.enable_prefix_caching and request.may_use_known_prefix):
            return PrefixHit([], is_coming=False)
        if request.awaited_hash is not None and any(request.awaited_hash in plan.coming for plan in plans):
            return PrefixHit([], is_coming=True)
        hashes = self._hashes_of(request)
        block_ids = self._cache.find_prefix(hashes)
        request.awaited_hash = hashes[len(block_ids)] if len(block_ids) < len(hashes) else None
        return PrefixHit(block_ids, any(request.awaited_hash in plan.coming for plan in plans))

    def announce(self, request: Request, plan: StepPlan, start: int, end: int) -> None:
        """``plan`` computes the known tokens from ``start`` to ``end``: who needs the same may wait for it."""
        if self._cache.enable_prefix_caching:
            block_size = self._cache.block_size
            plan.coming.update(request.hashes_of(end // block_size, block_size)[start // block_size :])

    def name_full_blocks(self, request: Request, end: int) -> None:
        """Lets others find the blocks of the first ``end`` tokens: the step that computed the last of these is back."""
        num_full = end // self._cache.block_size
        if num_full > request.num_named_blocks and self._cache.enable_prefix_caching:
            hashes = request.hashes_of(num_full, self._cache.block_size)
            first, name_block = request.num_named_blocks, self._cache.name_block
            is_new = [name_block(request.block_ids[index], hashes[index]) for index in range(first, len(hashes))]
            request.num_named_blocks = len(hashes)
            if self._cache.events is not None and not request.message.cache_salt:  # of a tenant's own nobody hears
                self._cache.events.note_stored(hashes, request.token_ids, first, is_new)

    def forget(self, request: Request) -> None:
        """Something in this request's context is wrong, nobody knows where: nothing of it is found from now on."""
        self._cache.forget(request.block_hashes)

    def lease(self, request: Request, now: float) -> None:
        """Keeps what ``request``, which leaves its blocks ``now``, has leases for and has computed.

        They end at whole seconds, so that the cache need not look more often.
        """
        for lease in request.message.leases:
            num_blocks = min(request.num_named_blocks, lease.num_tokens // self.block_size)
            end, tenant = math.ceil(now + lease.seconds), request.message.tenant
            self._cache.lease(request.block_hashes[:num_blocks], end, tenant)

    def num_leased_tokens(self, request: Request) -> int:
        """How many tokens of its prompt will be kept for ``request`` when it ends: full blocks, no more than there may be."""
        if not request.message.leases or not self._cache.enable_prefix_caching:
            return 0
        num_tokens = max(lease.num_tokens for lease in request.message.leases)
        num_blocks = min(request.num_named_blocks, num_tokens // self.block_size, self._cache.max_num_leased_blocks)
        return num_blocks * self.block_size

    def _hashes_of(self, request: Request) -> list[bytes]:
        """Of all full blocks but that of the last token; choices of one prompt, which come together, are hashed once."""
        block_size, last = self._cache.block_size, self._last_found
        if last is not None and not request.block_hashes and last.has_prompt_of(request):
            request.block_hashes = last.block_hashes[: request.num_prompt_tokens // block_size]
        self._last_found = request
        return request.hashes_of((len(request.token_ids) - 1) // block_size, block_size)
