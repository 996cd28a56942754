"""How large the memory is that ranks exchange numbers through, and what they count there; never imports torch.

Called by the executor, who makes it and looks at it.
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

LEAST_SLOT_BYTES = 1 << 20  # about what a core's own cache holds; longer exchanges go in pieces
STATE_BYTES = 64  # RankState in exchange.h
_COUNTS = struct.Struct("@24xqq")  # num_exchanges and num_bytes of it


def slot_bytes_for(row_bytes: int) -> int:
    """A slot that holds one row of the longest kind, in whole lines."""
    return max(LEAST_SLOT_BYTES, -(-row_bytes // STATE_BYTES) * STATE_BYTES)


def memory_bytes(num_ranks: int, slot_bytes: int) -> int:
    """A state a rank, then two halves of a slot a rank."""
    return num_ranks * (STATE_BYTES + 2 * slot_bytes)


def slot_bytes_of(num_ranks: int, num_bytes: int) -> int:
    """The reverse of ``memory_bytes``."""
    return (num_bytes // num_ranks - STATE_BYTES) // 2


class ExchangeCounts(NamedTuple):
    """What a rank has put there for the others so far."""

    num_exchanges: int
    num_bytes: int


def counts_of(memory: bytes | bytearray | memoryview | mmap.mmap, rank: int) -> ExchangeCounts:
    """As of now; the memory may be in use."""
    return ExchangeCounts(*_COUNTS.unpack_from(memory, rank * STATE_BYTES))
