"""Events about blocks of the KV cache, for routers outside: the form on the wire is vLLM's (its documentation of KV events).

A batch is an array ``[ts, events, data_parallel_rank]``, an event a map whose ``type`` is the struct's name; both are
msgpack. A hash is what vLLM makes of one: the last 8 bytes, as an unsigned number.
"""

from __future__ import annotations

import msgspec

KNOWN_TO_THE_ENGINE = "GPU"
"""What vLLM calls the tier that steps read from, on whatever device; routers know it by no other name."""


class BlockStored(msgspec.Struct, tag="BlockStored", tag_field="type", frozen=True, omit_defaults=True, gc=False):
    """These blocks, one behind the other, are found from now on; the first one's parent is None at a prompt's beginning."""

    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None


class BlockRemoved(msgspec.Struct, tag="BlockRemoved", tag_field="type", frozen=True, omit_defaults=True, gc=False):
    """These are found no more."""

    block_hashes: list[int]
    medium: str | None


class AllBlocksCleared(msgspec.Struct, tag="AllBlocksCleared", tag_field="type", frozen=True, gc=False):
    """Nothing of what was told before is found any more."""


KVEvent = BlockStored | BlockRemoved | AllBlocksCleared


class KVEventBatch(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What changed by a step, in its order; ``ts`` is the wall clock's seconds when it was put together."""

    ts: float
    events: list[KVEvent]
    data_parallel_rank: int = 0


class KVEventSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where an engine's events can be read."""

    endpoint: str
    replay_endpoint: str | None
    topic: str
    buffer_steps: int
    hwm: int
