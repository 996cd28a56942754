"""ChoiceReader: the parts that a choice's deltas are made of, as they come; knows no API's spelling of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yeoul.text.answers.parts import CallArguments, CallBegin, Part, ReasoningPart, TextPart
from yeoul.web_process.engine.generation_output import GenerationOutput

if TYPE_CHECKING:
    from yeoul.text.answers.answer_reader import AnswerReader
    from yeoul.text.tokenizer import Tokenizer


class ChoiceReader:
    """Of one choice.

    Args:
        reader: turns text into parts; None where all of it is text.
        tokenizer: counts the tokens of reasoning where a delta has other text as well.
        is_single: calls after the first are left out.
    """

    def __init__(self, reader: AnswerReader | None, tokenizer: Tokenizer, *, is_single: bool = False) -> None:
        self._reader = reader
        self._tokenizer = tokenizer
        self._is_single = is_single
        self.num_reasoning_tokens = 0
        self.work_a_character = 1 if reader is None else 512  # taking text apart is much more than writing it

    def parts(self, output: GenerationOutput) -> list[Part]:
        """What a delta brings; its last one everything that was still held back."""
        if self._reader is None:
            return [TextPart(output.text)] if output.text else []
        parts = self._reader.feed(output.text, output.marks)
        if output.finish_reason is not None:
            parts = [*parts, *self._reader.finish()]
        thoughts = [part.text for part in parts if isinstance(part, ReasoningPart)]
        if thoughts and len(thoughts) == len(parts) and output.finish_reason is None:
            self.num_reasoning_tokens += len(output.token_ids)
        elif thoughts:
            self.num_reasoning_tokens += len(self._tokenizer.encode("".join(thoughts), add_special_tokens=False))
        if not self._is_single:
            return parts
        return [part for part in parts if not (isinstance(part, CallBegin | CallArguments) and part.index > 0)]

    def has_called(self, output: GenerationOutput) -> bool:
        """Whether the choice ended by itself and its calls, one at least, are whole."""
        if self._reader is None or output.finish_reason != "stop":
            return False
        return self._reader.num_calls > 0 and self._reader.num_unfinished_calls == 0
