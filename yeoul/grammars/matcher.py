"""GrammarMatcher: where one answer stands in its grammar, and which tokens may come next; knows no model and no request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from yeoul.errors import InvalidRequestError

if TYPE_CHECKING:
    import llguidance
    import numpy as np
    import numpy.typing as npt


class GrammarError(InvalidRequestError):
    """The answer has left its grammar, or following it costs more than the limits allow."""


class GrammarMatcher:
    """Made by ``GrammarCompiler``, one a choice. A matcher that is given the same tokens stands at the same place.

    What a matcher learns of its grammar it shares with all copies, up to a limit. So where one fails, the tokens are gone
    over again with a fresh one: whether that fails depends on them alone, and not on what else the worker has computed.

    Args:
        matcher: at the beginning of the grammar.
        ends: the tokens that end an answer.
        renew: makes another one that shares nothing.
    """

    def __init__(
        self, matcher: llguidance.LLMatcher, ends: frozenset[int], renew: Callable[[], llguidance.LLMatcher]
    ) -> None:
        self._matcher = matcher
        self._ends = ends
        self._renew = renew
        self._accepted: list[int] = []

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
            self._accepted.append(token_id)
            if not self._matcher.consume_token(token_id):
                self._begin_anew()

    def allows(self, token_id: int) -> bool:
        """Whether the token may come next: its bit of ``fill_mask``, without finding all the others'.

        Raises:
            GrammarError: finding it costs more than the limits allow.
        """
        if self.is_complete:
            return token_id in self._ends
        is_allowed = self._matcher.validate_tokens([token_id]) == 1
        if self._matcher.is_error():
            self._begin_anew()
            is_allowed = self._matcher.validate_tokens([token_id]) == 1
            self._check()
        return is_allowed

    def fill_mask(self, mask: npt.NDArray[np.int32]) -> None:
        """Sets the bits of the tokens that may come next, and clears all others.

        ``mask`` has a bit a token, the lowest of the first number for token 0: ``[ceil(vocab_size / 32)]``.

        Raises:
            GrammarError: finding them costs more than the limits allow.
        """
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error():
            self._begin_anew()
            self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
            self._check()

    def _begin_anew(self) -> None:
        self._matcher = self._renew()
        self._matcher.consume_tokens(self._accepted)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            words = self._matcher.get_error().removesuffix("<non-verbose/>").strip()
            raise GrammarError(words if " " in words else f"no answer can fit it ({words})")
