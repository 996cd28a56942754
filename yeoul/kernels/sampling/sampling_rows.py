"""How the next token of each row is chosen, as numbers that kernels read; knows nothing of requests.

Made by ``layers.request_sampling``, read by the implementations of ``sample``; must agree with SamplingRow in
``native/calls.h``.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

# temperature 0 takes the likeliest token; top_k 0, top_p 1 and min_p 0 let every token through. The other three name the
# random number of a draw, see ``sampling_noise``; a position with SECOND_DRAW has another one, for who has to draw again.
SAMPLING_ROW = np.dtype(
    [
        ("seed", np.uint64),
        ("choice_index", np.uint32),
        ("position", np.uint32),
        ("top_k", np.int32),
        ("temperature", np.float32),
        ("top_p", np.float32),
        ("min_p", np.float32),
    ],
    align=True,
)
SECOND_DRAW = np.uint32(1 << 31)
SamplingRows: TypeAlias = npt.NDArray[np.void]
TokenMasks: TypeAlias = npt.NDArray[np.int32]
"""``[num_rows, ceil(vocab_size / 32)]``: a bit a token, the lowest of a row's first number for token 0."""
