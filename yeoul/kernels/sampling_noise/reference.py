"""Random numbers that are a function of what they are for, and of nothing else: a counter-based generator in numpy.

Knows nothing of requests or probabilities. ``layers.sampler`` asks for one number a sampled token. There is no state, so
a request draws the same numbers alone and in any crowd, after a preemption and in another process.

Philox4x32-10 is from Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt64Array = npt.NDArray[np.uint64]

_NUM_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW_WORD = np.uint64(0xFFFFFFFF)
_WORD_BITS = np.uint64(32)


def philox4x32(counters: UInt64Array, keys: UInt64Array) -> UInt64Array:
    """Scrambles counters with keys.

    Args:
        counters: ``[num_rows, 4]``, each number a 32-bit word held in 64 bits.
        keys: ``[num_rows, 2]``, the same.

    Returns:
        ``[num_rows, 4]`` random words of 32 bits, each held in 64.
    """
    word0, word1, word2, word3 = counters.T
    key0, key1 = keys.T
    for _ in range(_NUM_ROUNDS):
        product0 = word0 * _MULTIPLIERS[0]
        product1 = word2 * _MULTIPLIERS[1]
        word0, word1, word2, word3 = (
            (product1 >> _WORD_BITS) ^ word1 ^ key0,
            product1 & _LOW_WORD,
            (product0 >> _WORD_BITS) ^ word3 ^ key1,
            product0 & _LOW_WORD,
        )
        key0 = (key0 + _KEY_STEPS[0]) & _LOW_WORD
        key1 = (key1 + _KEY_STEPS[1]) & _LOW_WORD
    return np.stack([word0, word1, word2, word3], axis=1)


def uniform_noise(seeds: list[int], choice_indices: list[int], positions: list[int]) -> npt.NDArray[np.float64]:
    """One number a row, evenly spread over [0, 1) in steps of 2**-53.

    The seed (its low 64 bits) is the key; position and choice (their low 32 bits) are the counter, whose other words
    are 0.
    """
    low = 0xFFFFFFFF
    keys = np.array([(seed & low, (seed >> 32) & low) for seed in seeds], dtype=np.uint64)
    counters = np.array(
        [(position & low, choice & low, 0, 0) for position, choice in zip(positions, choice_indices, strict=True)],
        dtype=np.uint64,
    )
    words = philox4x32(counters.reshape(-1, 4), keys.reshape(-1, 2))
    bits = ((words[:, 0] << _WORD_BITS) | words[:, 1]) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53
