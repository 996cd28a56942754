"""ThinkingLimit: ends a thought that has become as long as its request allows; knows no batch and no text.

What it forces depends on the tokens of the answer alone, so an answer is the same wherever it is computed again.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable

from yeoul.messages.sampling import ThinkingBudget

_MAX_NUM_TOKENS_BEFORE = 4
"""An answer may begin with line ends. Later than that the mark that begins a thought is text."""


class ThinkingLimit:
    """One a choice. A thought begins at the answer's first tokens or has begun before them, and ends once.

    Args:
        budget: how many tokens the thought may have, and which ones begin and end it.
        output: the tokens of the answer so far.
    """

    def __init__(self, budget: ThinkingBudget, output: Iterable[int] = ()) -> None:
        self._budget = budget
        self._ends = [tuple(end) for end in budget.ends]
        self._begin = tuple(budget.begin)
        self._recent: collections.deque[int] = collections.deque(maxlen=max(map(len, [self._begin, *self._ends])))
        self._is_open = budget.is_open
        self._is_over = False
        self._num_tokens = 0  # of the thought, or of what came before it
        for token_id in output:
            self.note(token_id)

    def forced(self) -> int | None:
        """The only token that may come next; None where the model may choose."""
        if self._is_over or not self._is_open or self._num_tokens < self._budget.num_tokens:
            return None
        end = self._ends[0]
        recent = tuple(self._recent)
        # The thought may have come to its limit within its own mark.
        done = max(size for size in range(len(end)) if recent[len(recent) - size :] == end[:size])
        return end[done]

    def note(self, token_id: int) -> None:
        """Takes account of the next token of the answer."""
        if self._is_over:
            return
        self._recent.append(token_id)
        self._num_tokens += 1
        if self._is_open:
            self._is_over = any(self._has_just(end) for end in self._ends)
        elif self._has_just(self._begin):
            self._is_open, self._num_tokens = True, 0
        else:
            self._is_over = self._num_tokens > len(self._begin) + _MAX_NUM_TOKENS_BEFORE

    def _has_just(self, mark: tuple[int, ...]) -> bool:
        return tuple(self._recent)[-len(mark) :] == mark
