"""TextOffsets: where the tokens of one choice begin in its text; knows no formats and no engine. CompletionFormat asks it."""

from __future__ import annotations

from collections.abc import Sequence

from yeoul.messages.sampling import SamplingParams
from yeoul.text.detokenizer import IncrementalDetokenizer
from yeoul.text.tokenizer import Tokenizer


class TextOffsets:
    """Offsets in characters of the text that the client gets: the echoed prompt, where there is one, and the answer.

    The parts of one character all begin where it begins. A token that is no text (a special one that is left out) begins
    where the next one does.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_token_ids: Sequence[int], echo: str, sampling: SamplingParams) -> None:
        self._tokenizer = tokenizer
        self._prompt_token_ids = prompt_token_ids
        self._echo = echo
        plain = SamplingParams(skip_special_tokens=sampling.skip_special_tokens)
        self._detokenizer = IncrementalDetokenizer(tokenizer, prompt_token_ids, plain)
        self._end = len(echo)

    def of_prompt(self) -> list[int]:
        """Of all tokens of the echoed prompt; what the tokenizer put before the client's text begins at 0, as that does."""
        detokenizer = IncrementalDetokenizer(self._tokenizer, [], SamplingParams(skip_special_tokens=False))
        pieces = [detokenizer.push([token_id]) for token_id in self._prompt_token_ids]
        text = "".join(pieces) + detokenizer.finish()
        place = len(self._echo) - len(text) if text.endswith(self._echo) else 0
        offsets = []
        for piece in pieces:
            offsets.append(min(max(0, place), len(self._echo)))
            place += len(piece)
        return offsets

    def of_answer(self, token_ids: Sequence[int]) -> list[int]:
        """Of the answer's next tokens."""
        offsets = []
        for token_id in token_ids:
            offsets.append(self._end)
            self._end += len(self._detokenizer.push([token_id]))
        return offsets
