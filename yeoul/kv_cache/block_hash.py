"""The names of full blocks: chained hashes of their tokens; knows nothing of blocks or requests. Called by the scheduler.

A block's hash covers its tokens and, through its parent's hash, every token before them and the keys that separate tenants.
So equal hashes mean equal contents of the cache, as far as SHA-256 has no collisions.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import sha256

MAX_TOKEN_ID = 2**31 - 1


def root_hash(extra_keys: Sequence[str] = ()) -> bytes:
    """The parent of a first block: 32 bytes that differ for every list of ``extra_keys`` (a tenant's salt, an adapter)."""
    digest = sha256(b"yeoul kv cache root")
    for key in extra_keys:
        encoded = key.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.digest()


def extend_hashes(hashes: list[bytes], root: bytes, token_ids: Sequence[int], block_size: int, num_blocks: int) -> None:
    """Appends to ``hashes`` (32 bytes each) until it names the first ``num_blocks`` blocks of ``token_ids``, all full.

    Token ids are at most MAX_TOKEN_ID; a larger one is an OverflowError.
    """
    packed = array("i", token_ids[len(hashes) * block_size : num_blocks * block_size])
    data = packed.tobytes()
    width = packed.itemsize * block_size
    parent = hashes[-1] if hashes else root
    for start in range(0, len(data), width):
        parent = sha256(parent + data[start : start + width]).digest()
        hashes.append(parent)
