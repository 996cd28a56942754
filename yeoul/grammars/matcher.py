"""GrammarMatcher: where one answer stands in its grammar, and which tokens may come next; knows no model and no request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import llguidance
    import numpy as np
    import numpy.typing as npt


class GrammarError(Exception):
    """The answer has left its grammar, or following it costs more than the limits allow."""


class GrammarMatcher:
    """Made by ``GrammarCompiler``, one a choice. A matcher that is given the same tokens stands at the same place."""

    def __init__(self, matcher: llguidance.LLMatcher, ends: frozenset[int]) -> None:
        self._matcher = matcher
        self._ends = ends

    @property
    def is_complete(self) -> bool:
        """Nothing but an end of the answer may follow."""
        return self._matcher.is_stopped()

    def accept(self, token_ids: Iterable[int]) -> None:
        """Goes on over tokens of the answer, its end included.

        Raises:
            GrammarError: the grammar does not allow them, or they cost too much.
        """
        for token_id in token_ids:
            if token_id in self._ends and self.is_complete:
                continue  # an end of the answer, which a request may ignore: there is nothing to go on to
            if not self._matcher.consume_token(token_id):
                raise GrammarError(self._error())

    def fill_mask(self, mask: npt.NDArray[np.int32]) -> None:
        """Sets the bits of the tokens that may come next, and clears all others.

        ``mask`` has a bit a token, the lowest of the first number for token 0: ``[ceil(vocab_size / 32)]``.

        Raises:
            GrammarError: finding them costs more than the limits allow.
        """
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error():
            raise GrammarError(self._error())

    def _error(self) -> str:
        words = self._matcher.get_error().removesuffix("<non-verbose/>").strip()
        return words if " " in words else f"no answer can fit it ({words})"
