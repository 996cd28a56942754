"""ModelRunner: what a Worker asks of the thing that computes; implemented by GPUModelRunner and the fake.

Knows nothing of processes or of how a runner computes.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from yeoul.messages.steps import RequestResult, StepInput


class ModelRunner(Protocol):
    """One model on one device. The order of calls: ``load``, ``allocate_cache``, then ``execute`` for each step."""

    prepared_at: float
    """When the last step was laid out, and the model could run, of the monotonic clock."""

    sample_seconds: float
    """What the last step took behind the model: tokens were drawn, prompts scored, vectors pooled."""

    @property
    def device_name(self) -> str:
        """The device as the terminal shows it."""
        ...

    def load(self) -> None:
        """Brings the weights to the device. Raises ModelFileError, or ConfigError for what cannot work here."""
        ...

    @property
    def block_bytes(self) -> int:
        """The memory that one block of the KV cache takes on this rank, over all layers. Known after ``load``."""
        ...

    def max_num_blocks(self) -> int:
        """The blocks that there is room for. Raises ConfigError if one context of the full length does not fit."""
        ...

    def fingerprint(self) -> str:
        """Names the model, its weights and its number type: equal fingerprints promise equal answers."""
        ...

    def cache_key(self) -> str:
        """Names all that the bytes of a block depend on beside its tokens and ranks; empty: they cannot be kept."""
        ...

    def cache_blocks(self) -> npt.NDArray[np.uint8]:
        """The memory of the cache, a row a block, until it is allocated again; only where blocks can be kept."""
        ...

    def allocate_cache(self, num_blocks: int) -> None:
        """Makes a cache of ``num_blocks`` empty blocks and forgets all requests. May be called again."""
        ...

    def execute(self, step: StepInput) -> list[RequestResult]:
        """Computes a step: an entry for each request that sampled, embedded or failed."""
        ...
