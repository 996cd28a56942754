"""ChoiceReader: the parts that a choice's deltas are made of, as they come; knows no API's spelling of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yeoul.text.answers.parts import CallArguments, CallBegin, Part, ReasoningPart, TextPart
from yeoul.web_process.engine.generation_output import GenerationOutput

if TYPE_CHECKING:
    from yeoul.text.answers.answer_reader import AnswerReader
    from yeoul.text.tokenizer import Tokenizer

_NUM_CHARACTERS_COUNTED_AT_A_TIME = 4096


class ChoiceReader:
    """Of one choice.

    Args:
        reader: turns text into parts; None where all of it is text.
        tokenizer: counts the tokens of reasoning.
        is_single: calls after the first are left out.
    """

    def __init__(self, reader: AnswerReader | None, tokenizer: Tokenizer, *, is_single: bool = False) -> None:
        self._reader = reader
        self._thoughts = _TokenCount(tokenizer)
        self._is_single = is_single
        self.num_reasoning_tokens = 0  # known with the last delta
        self.work_a_character = 1 if reader is None else 512  # taking text apart is much more than writing it

    def parts(self, output: GenerationOutput) -> list[Part]:
        """What a delta brings; its last one everything that was still held back."""
        if self._reader is None:
            return [TextPart(output.text)] if output.text else []
        parts = self._reader.feed(output.text, output.marks)
        if output.finish_reason is not None:
            parts = [*parts, *self._reader.finish()]
        for part in parts:
            if isinstance(part, ReasoningPart):
                self._thoughts.add(part.text)
        if output.finish_reason is not None:
            self.num_reasoning_tokens = min(self._thoughts.finish(), output.num_output_tokens)
        if not self._is_single:
            return parts
        return [part for part in parts if not (isinstance(part, CallBegin | CallArguments) and part.index > 0)]

    def has_called(self, output: GenerationOutput) -> bool:
        """Whether the choice ended by itself and its calls, one at least, are whole."""
        if self._reader is None or output.finish_reason != "stop":
            return False
        return self._reader.num_calls > 0 and self._reader.num_unfinished_calls == 0


class _TokenCount:
    """How many tokens a text has that comes in pieces: the same in every way of cutting it, and no long work at its end."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._text = ""
        self._num_tokens = 0

    def add(self, text: str) -> None:
        """The text goes on."""
        self._text += text
        start, most = 0, _NUM_CHARACTERS_COUNTED_AT_A_TIME
        while len(self._text) - start > most:
            end = self._text.rfind(" ", start + 1, start + most)  # a token that goes over a space is rare
            start = self._count(start, end if end > 0 else start + most)
        if start:
            self._text = self._text[start:]

    def finish(self) -> int:
        """The number; nothing follows."""
        self._count(0, len(self._text))
        return self._num_tokens

    def _count(self, start: int, end: int) -> int:
        self._num_tokens += len(self._tokenizer.encode(self._text[start:end], add_special_tokens=False))
        return end
