"""The fake model's arithmetic: the next token is a hash of all tokens before it. Numpy and plain integers, never torch.

Knows nothing of caches or requests. ``FakeModelRunner`` computes with it through the KV cache's blocks; tests compute the
same answer without a cache, so that a wrong block or counter anywhere shows as wrong text.

The hash of a prefix is ``h(p) = h(p - 1) * MULTIPLIER + mix(token(p))`` modulo 2**64, with ``h(-1) = START``. The next
token is drawn from ``h(p)``, from the hash at one earlier position that ``h(p)`` picks (a model looks at all of its
cache, and so must its double), and, if the temperature is above 0, from (seed, choice index, position).
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from yeoul.messages.sampling import SamplingParams

UInt64Array = npt.NDArray[np.uint64]
Hash = TypeVar("Hash", int, UInt64Array)

VOCAB_SIZE = 512
MULTIPLIER = 0x5851F42D4C957F2D
START = 0x9E3779B97F4A7C15
CERTAIN_BIAS = 100.0
POISON = {508: "hang", 509: "run out of memory", 510: "raise", 511: "segfault"}
"""What these tokens do to a worker, where ``fake_poison`` is set."""
_MASK = (1 << 64) - 1
_UTF8_LEAD = 0xC3


def mix(value: Hash) -> Hash:
    """Scrambles 64-bit numbers (the finaliser of splitmix64, Steele, Lea and Flood 2014); ints or an uint64 array."""
    if isinstance(value, int):
        return int(mix(np.array([value & _MASK], dtype=np.uint64))[0])
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def sampling_noise(sampling: SamplingParams, choice_index: int) -> int:
    """What the request adds to its draws: 0 if it is greedy. The position comes on top of it."""
    if sampling.temperature == 0:
        return 0
    noise = mix((sampling.seed or 0) + START)
    return mix(mix(noise) + choice_index) | 1


def draw(last_hash: UInt64Array, earlier_hash: UInt64Array, noise: UInt64Array, position: UInt64Array) -> UInt64Array:
    """64 random bits for the token at output ``position``."""
    noise_here = np.where(noise == 0, np.uint64(0), mix(noise + position))
    return mix(last_hash ^ mix(earlier_hash + np.uint64(1)) ^ noise_here)


def token_from_bits(bits: int, last_token_id: int) -> int:
    """Turns random bits into a byte: printable ASCII with many spaces, now and then the first half of a UTF-8 character.

    A first half is always followed by its second half.
    """
    kind, rest = bits & 0xFF, bits >> 8
    if last_token_id == _UTF8_LEAD:
        return 0x80 + rest % 64
    if kind < 8:
        return _UTF8_LEAD
    return 0x20 if kind < 48 else 0x20 + rest % 95


def act_on_poison(token_ids: UInt64Array) -> None:
    """Does what the first poison among these tokens does, if there is any."""
    found = np.intersect1d(token_ids, np.array(list(POISON), dtype=np.uint64))
    if not len(found):
        return
    kind = POISON[int(found[0])]
    if kind == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif kind == "hang":
        threading.Event().wait()
    elif kind == "run out of memory":
        raise MemoryError("a token of the prompt stands for an allocation that fails")
    raise RuntimeError("a token of the prompt stands for a bug")


def constrain(token_id: int, sampling: SamplingParams, eos_token_ids: list[int], num_output_tokens: int) -> int:
    """Honours forced tokens, ``min_tokens`` and a logit bias of 100, which makes its token certain (to end an answer)."""
    if num_output_tokens < len(sampling.forced_token_ids):
        return sampling.forced_token_ids[num_output_tokens]
    for biased_token_id, bias in sampling.logit_bias.items():
        if bias >= CERTAIN_BIAS:
            token_id = biased_token_id
    if num_output_tokens < sampling.min_tokens:
        banned = {*eos_token_ids, *sampling.stop_token_ids}
        while token_id in banned:
            token_id = (token_id + 1) % VOCAB_SIZE
    return token_id
