"""The tokens that begin and end a model's thoughts, where a text of these marks is always these tokens; knows no request."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from yeoul.messages.sampling import ThinkingBudget
from yeoul.text.answers.families import ToolFamily
from yeoul.text.answers.reasoning import ReasoningFamily

if TYPE_CHECKING:
    from yeoul.text.tokenizer import Tokenizer

_NEIGHBOURS = ("a", " ", ".", ">", "\n", "\n\n", "{")


class ThinkingMarks(NamedTuple):
    """As tokens. The first of ``ends`` is the mark itself; the others begin calls that end a thought too."""

    begin: list[int]
    ends: list[list[int]]

    def budget(self, num_tokens: int, *, is_open: bool) -> ThinkingBudget:
        """For one request; ``is_open``: its answers begin inside a thought."""
        return ThinkingBudget(num_tokens, self.begin, self.ends, is_open)


def find_thinking_marks(
    tokenizer: Tokenizer, reasoning: ReasoningFamily | None, tools: ToolFamily | None
) -> ThinkingMarks | None:
    """None where a model may write its marks with other tokens: then nobody sees by its tokens where a thought ends."""
    if reasoning is None:
        return None
    texts = [reasoning.begin, reasoning.end]
    if reasoning.ends_at_calls and tools is not None:
        texts += tools.calls.begins
    marks = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    if not all(_is_apart(tokenizer, text, mark) for text, mark in zip(texts, marks, strict=True)):
        return None
    return ThinkingMarks(marks[0], marks[1:])


def _is_apart(tokenizer: Tokenizer, text: str, mark: list[int]) -> bool:
    """Whether no token of its neighbours takes a piece of it."""
    return bool(mark) and all(
        tokenizer.encode(before + text, add_special_tokens=False)[-len(mark) :] == mark
        and tokenizer.encode(text + before, add_special_tokens=False)[: len(mark)] == mark
        for before in _NEIGHBOURS
    )
