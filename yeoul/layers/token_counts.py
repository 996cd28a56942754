"""TokenCounts: which tokens a request has seen and how often it made them; numpy only, kept only for penalties.

Knows nothing of penalties themselves. Owned by ``RequestSampling``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class TokenCounts:
    """The distinct tokens of a request, in the order of their ids first and of their arrival after that.

    Args:
        token_ids: int32 ``[num_tokens]``, prompt and output so far.
        num_prompt_tokens: how many of them are prompt: they are seen, but count 0.
    """

    def __init__(self, token_ids: npt.NDArray[np.int32], num_prompt_tokens: int) -> None:
        distinct, places = np.unique(token_ids, return_inverse=True)
        self._num_distinct = len(distinct)
        self._token_ids = np.zeros(max(64, 2 * self._num_distinct), dtype=np.int64)
        self._token_ids[: self._num_distinct] = distinct
        self._num_outputs = np.zeros(len(self._token_ids), dtype=np.float32)
        np.add.at(self._num_outputs, places[num_prompt_tokens:], 1.0)
        self._places = {token_id: place for place, token_id in enumerate(distinct.tolist())}

    @property
    def token_ids(self) -> npt.NDArray[np.int64]:
        """The distinct tokens, int64."""
        return self._token_ids[: self._num_distinct]

    @property
    def num_outputs(self) -> npt.NDArray[np.float32]:
        """How often each of ``token_ids`` is in the output, float32."""
        return self._num_outputs[: self._num_distinct]

    def add(self, token_id: int) -> None:
        """Counts one more output token."""
        place = self._places.get(token_id)
        if place is None:
            place = self._num_distinct
            if place == len(self._token_ids):
                self._token_ids = np.concatenate([self._token_ids, np.zeros_like(self._token_ids)])
                self._num_outputs = np.concatenate([self._num_outputs, np.zeros_like(self._num_outputs)])
            self._token_ids[place] = token_id
            self._places[token_id] = place
            self._num_distinct += 1
        self._num_outputs[place] += 1.0
