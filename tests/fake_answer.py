"""What the fake model answers, computed without a cache, a batch or a chunk: the truth that its worker is held against."""

from __future__ import annotations

import numpy as np

from yeoul.messages.sampling import SamplingParams
from yeoul.worker_process.fake_model import MULTIPLIER, START, constrain, draw, mix, sampling_noise, token_from_bits


def expected_tokens(
    prompt_token_ids: list[int],
    sampling: SamplingParams,
    num_tokens: int,
    *,
    choice_index: int = 0,
    eos_token_ids: list[int] | None = None,
) -> list[int]:
    """The first ``num_tokens`` tokens that the fake model answers, whatever the batch, the chunks or the cache."""
    tokens = list(prompt_token_ids)
    hashes: list[int] = []
    noise = sampling_noise(sampling, choice_index)
    while True:
        for token in tokens[len(hashes) :]:
            before = hashes[-1] if hashes else START
            hashes.append((before * MULTIPLIER + mix(token)) % 2**64)
        position = len(tokens) - len(prompt_token_ids)
        if position >= num_tokens:
            return tokens[len(prompt_token_ids) :]
        numbers = (hashes[-1], hashes[hashes[-1] % len(hashes)], noise, position)
        bits = int(draw(*(np.array([number], dtype=np.uint64) for number in numbers))[0])
        tokens.append(constrain(token_from_bits(bits, tokens[-1]), sampling, eos_token_ids or [], position))
