"""A router's side of KV events: the messages as vLLM documents them, and an index of prefixes that follows them."""

from __future__ import annotations

from typing import Any

import msgspec
import zmq


class BlockStored(msgspec.Struct, tag=True, kw_only=True):
    """Fields without a default are always there, those with one where they are set."""

    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None
    extra_keys: list[Any] | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None
    kv_cache_spec_sliding_window: int | None = None
    locality: str | None = None
    ownership: str | None = None
    session_id: str | None = None


class BlockRemoved(msgspec.Struct, tag=True, kw_only=True):
    block_hashes: list[int]
    medium: str | None
    group_idx: int | None = None
    locality: str | None = None
    ownership: str | None = None


class AllBlocksCleared(msgspec.Struct, tag=True):
    pass


class KVEventBatch(msgspec.Struct, array_like=True):
    ts: float
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]
    data_parallel_rank: int


class PrefixIndex:
    """What one engine has, by its events; an engine has a hash once, so that a second store or removal is a mistake."""

    def __init__(self) -> None:
        self.tokens: dict[int, tuple[int | None, tuple[int, ...]]] = {}
        self.block_size = 0

    def apply(self, payload: bytes) -> KVEventBatch:
        batch = msgspec.msgpack.decode(payload, type=KVEventBatch)
        for event in batch.events:
            if isinstance(event, BlockStored):
                self._store(event)
            elif isinstance(event, BlockRemoved):
                assert event.block_hashes, "an event about nothing"
                assert event.medium == "GPU"
                for name in event.block_hashes:
                    del self.tokens[name]
            else:
                self.tokens.clear()
        return batch

    def _store(self, event: BlockStored) -> None:
        assert event.block_hashes, "an event about nothing"
        assert len(event.token_ids) == len(event.block_hashes) * event.block_size
        assert (event.lora_id, event.lora_name, event.medium) == (None, None, "GPU")
        self.block_size, parent = event.block_size, event.parent_block_hash
        for place, name in enumerate(event.block_hashes):
            assert name not in self.tokens, "a block is stored twice"
            tokens = event.token_ids[place * event.block_size : (place + 1) * event.block_size]
            self.tokens[name] = (parent, tuple(tokens))
            parent = name

    def num_known_blocks(self, token_ids: list[int]) -> int:
        """How many blocks of this prompt the engine has, from its beginning on."""
        by_content = {content: name for name, content in self.tokens.items()}
        parent: int | None = None
        for place in range(len(token_ids) // self.block_size if self.block_size else 0):
            tokens = tuple(token_ids[place * self.block_size : (place + 1) * self.block_size])
            if (parent := by_content.get((parent, tokens))) is None:
                return place
        return len(token_ids) // self.block_size if self.block_size else 0


class Subscriber:
    """Sockets as routers open them. ``numbers`` are those of the messages that came."""

    def __init__(self, endpoint: str, replay_endpoint: str | None = None, topic: bytes = b"") -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.live = self._context.socket(zmq.SUB)
        self.live.connect(endpoint)
        self.live.subscribe(topic)
        self._replay_endpoint = replay_endpoint
        self.topic = topic
        self.index = PrefixIndex()
        self.numbers: list[int] = []

    def take(self, timeout_seconds: float = 10.0) -> KVEventBatch | None:
        """The next message, which is applied; None where none comes."""
        if not self.live.poll(int(timeout_seconds * 1000)):
            return None
        topic, number, payload = self.live.recv_multipart()
        assert topic == self.topic
        assert len(number) == 8
        self.numbers.append(int.from_bytes(number, "big"))
        return self.index.apply(payload)

    def replay(self, first: int, timeout_seconds: float = 10.0) -> list[tuple[int, bytes]]:
        """What is kept from the number ``first`` on, up to the mark of the end."""
        assert self._replay_endpoint is not None
        found: list[tuple[int, bytes]] = []
        with self._context.socket(zmq.DEALER) as dealer:
            dealer.connect(self._replay_endpoint)
            dealer.send_multipart([b"", first.to_bytes(8, "big")])
            while True:
                assert dealer.poll(int(timeout_seconds * 1000)), "the replay does not end"
                empty, topic, number, payload = dealer.recv_multipart()
                assert empty == b""
                if int.from_bytes(number, "big", signed=True) == -1:
                    assert (topic, payload) == (b"", b"")
                    return found
                assert topic == self.topic
                found.append((int.from_bytes(number, "big"), payload))

    def close(self) -> None:
        self.live.close(linger=0)
        self._context.term()
