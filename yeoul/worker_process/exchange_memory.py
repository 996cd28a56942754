"""ExchangeMemory: the memory through which ranks on this host's CPUs exchange numbers, as the executor holds it.

Knows no worker: they inherit its descriptor. The executor makes one a pipeline stage, and looks at what ranks count there.
"""

from __future__ import annotations

import mmap
import os

from yeoul.config.parts import EngineSettings
from yeoul.kernels.exchange.layout import STATE_BYTES, ExchangeCounts, counts_of, memory_bytes, slot_bytes_for
from yeoul.transport.shared_memory import create_shared_memory

_LARGEST_NUMBER_BYTES = 4


class ExchangeMemory:
    """``fd`` is None where the ranks do without: one alone, or several that exchange by other means."""

    def __init__(self, settings: EngineSettings) -> None:
        size = settings.parallel.tensor_parallel_size
        self.fd: int | None = None
        self._states: mmap.mmap | None = None
        if size == 1 or settings.parallel.disable_custom_all_reduce or settings.model.device == "cuda":
            return
        row_bytes = _LARGEST_NUMBER_BYTES * max(settings.description.vocab_size, settings.description.hidden_size)
        self.fd = create_shared_memory("yeoul-exchange", memory_bytes(size, slot_bytes_for(row_bytes)))
        self._states = mmap.mmap(self.fd, size * STATE_BYTES, prot=mmap.PROT_READ)

    def give_away(self) -> None:
        """Whoever is to have the descriptor has it; what ranks count is seen from now on, too."""
        if self.fd is not None:
            os.close(self.fd)

    def counts(self, rank: int) -> ExchangeCounts | None:
        """What a rank has put there so far, from any thread; None where there is no memory."""
        return counts_of(self._states, rank) if self._states is not None else None
