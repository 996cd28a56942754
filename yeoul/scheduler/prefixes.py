"""Prefixes: finds the blocks that a request need not compute, and names those that it has filled; owns no block.

Called by Scheduler and AnswerReader; the cache knows blocks by hashes, the request has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from yeoul.kv_cache.manager import KVCacheManager
from yeoul.scheduler.plan import StepPlan
from yeoul.scheduler.request import Request
from yeoul.scheduler.tier_moves import TierMoves


class PrefixHit(NamedTuple):
    """Blocks that hold the beginning of a prompt. ``is_coming``: the next one is just being computed or loaded;
    ``names_below``: those that follow and are in the tier below."""

    block_ids: list[int]
    is_coming: bool
    names_below: Sequence[bytes] = ()


class Prefixes:
    """Of one cache, and the tier below it where there is one; does nothing where its prefix caching is off."""

    def __init__(self, cache: KVCacheManager, moves: TierMoves | None = None) -> None:
        self._cache = cache
        self._moves = moves
        self.block_size = cache.block_size
        self._last_found: Request | None = None

    def find(self, request: Request, plans: Sequence[StepPlan]) -> PrefixHit:
        """The blocks that ``request`` need not compute; at least its last token is always computed."""
        if not (self._cache.enable_prefix_caching and request.may_use_known_prefix):
            return PrefixHit([], is_coming=False)
        moves = self._moves
        if request.awaited_hash is not None and self._is_coming(request, request.awaited_hash, plans):
            return PrefixHit([], is_coming=True)
        hashes = self._hashes_of(request)
        block_ids = self._cache.find_prefix(hashes)
        num_known = len(block_ids)
        request.awaited_hash = hashes[num_known] if num_known < len(hashes) else None
        if request.awaited_hash is None or self._is_coming(request, request.awaited_hash, plans):
            return PrefixHit(block_ids, is_coming=request.awaited_hash is not None)
        num_below = 0 if moves is None or request.has_loaded else moves.find(hashes[num_known:])
        return PrefixHit(block_ids, False, hashes[num_known : num_known + num_below])

    def _is_coming(self, request: Request, block_hash: bytes, plans: Sequence[StepPlan]) -> bool:
        if any(block_hash in plan.coming for plan in plans):
            return True
        if self._moves is None or block_hash not in self._moves.coming:
            return False
        if request.load_began is None:
            request.load_began = self._moves.now
        request.last_load = self._moves.coming[block_hash]
        return True

    def load(self, request: Request, table: list[int], hit: PrefixHit) -> None:
        """Fills the rest of ``table``, whose beginning ``hit`` has found, with what it has found below."""
        assert self._moves is not None, "nothing is below"
        num_known = len(hit.block_ids)
        hashes, events, tell = request.block_hashes[: len(table)], self._cache.events, None
        if events is not None and not request.message.cache_salt:
            token_ids = request.token_ids[: len(table) * self.block_size]
            tell = partial(events.note_stored, hashes, token_ids, num_known)
        request.last_load = self._moves.load(table, num_known, hit.names_below, tell, in_gaps=request.in_gaps)
        request.has_loaded = True
        if request.load_began is None:
            request.load_began = self._moves.now

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
            if self._moves is not None:
                self._moves.note_named(hashes[first:])
            request.num_named_blocks = len(hashes)
            if self._cache.events is not None and not request.message.cache_salt:  # of a tenant's own nobody hears
                self._cache.events.note_stored(hashes, request.token_ids, first, is_new)

    def is_kept(self, request: Request) -> bool:
        """Whether other engines find the whole prompt in the tier below, and may go on with it.

        This is asked with every token: each block is looked for until it was found once since the request was admitted. Who
        goes on computes what is gone again.
        """
        num_blocks = request.num_prompt_tokens // self.block_size
        if self._moves is None or not request.may_use_known_prefix or request.num_named_blocks < num_blocks:
            return False
        num_left = num_blocks - request.num_kept_blocks
        while num_left and self._moves.keeps(request.block_hashes[num_left - 1]):  # the last is stored last
            num_left -= 1
        request.num_kept_blocks = num_blocks - num_left
        return num_left == 0

    def forget(self, request: Request) -> None:
        """Something in this request's context is wrong, nobody knows where: nothing of it is found from now on."""
        self._cache.forget(request.block_hashes)
        if self._moves is not None:
            self._moves.forget(request.block_hashes)

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
