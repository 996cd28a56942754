"""Pooling: hidden states to one embedding vector; knows nothing of models. The model runner keeps one a pooling request."""

from __future__ import annotations

import torch
from torch import Tensor

from yeoul.errors import InvalidRequestError

POOLING_KINDS = ("last", "mean")


class Pooling:
    """``last`` is the last token's state, ``mean`` the mean over all tokens; the vector has length 1.

    Sums are float64 and go token by token, so that the vector does not depend on how the prompt was cut into chunks.
    """

    def __init__(self, kind: str) -> None:
        if kind not in POOLING_KINDS:
            raise InvalidRequestError(f"pooling is {kind!r}; expected one of {', '.join(POOLING_KINDS)}", param="pooling")
        self._is_mean = kind == "mean"
        self._sum: Tensor | None = None

    def add(self, hidden_states: Tensor) -> None:
        """Takes the states of the request's next tokens, ``[num_tokens, hidden_size]``."""
        if not self._is_mean:
            self._sum = hidden_states[-1].double()
            return
        states = hidden_states.double()
        if self._sum is not None:
            states = torch.cat([self._sum[None], states])
        self._sum = states.cumsum(dim=0)[-1]

    def embedding(self) -> bytes:
        """The vector of all that was added: float32, little endian."""
        assert self._sum is not None, "an embedding of no tokens"
        length = (self._sum * self._sum).sum().sqrt().clamp(min=1e-30)
        return (self._sum / length).float().cpu().numpy().astype("<f4").tobytes()
