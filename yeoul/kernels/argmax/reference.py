"""The likeliest token of each row in plain torch: the truth that every other implementation is tested against.

Knows nothing of sampling. Called through ``kernels.operations``.
"""

from __future__ import annotations

from torch import Tensor


def argmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The place of each row's largest number, the lowest among equals.

    Args:
        logits: float32 ``[num_rows, vocab_size]``.

    Returns:
        int64 ``[num_rows]``, the places, and float32 ``[num_rows]``, the numbers there. Where a row holds a NaN or its
        largest number is infinite, that number is not finite, and the place says nothing.
    """
    places = logits.argmax(dim=-1)
    return places, logits.gather(1, places[:, None])[:, 0]
