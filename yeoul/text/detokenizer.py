"""Turns the tokens of one answer into text as they come; knows no process and no request. AsyncLLM holds one a choice.

Text is defined by bytes: a token is some bytes, an answer's text is the UTF-8 text of all its bytes. So a character that is
spread over several tokens comes out whole with the last of them, and nothing depends on how tokens were cut into steps.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence

from yeoul.messages.sampling import SamplingParams
from yeoul.text.stop_strings import StopStringMatcher
from yeoul.text.tokenizer import Tokenizer


class IncrementalDetokenizer:
    """The text of one answer, released as early as it is certain.

    Held back are the bytes of an unfinished character and the beginning of a possible stop string. ``stop_reason`` is the
    stop string that ended the answer; tokens after it are dropped, and ``num_tokens_used`` counts those up to it.
    A detokenizer is rebuilt by pushing the tokens received so far into a new one. ``has_marks`` says whether ``take_marks``
    may have anything to tell.

    Args:
        tokenizer: gives the bytes of each token.
        prompt_token_ids: decide whether the answer begins the text, and which character it may be finishing.
        sampling: ``stop``, ``include_stop_str_in_output``, ``min_tokens`` and ``skip_special_tokens`` are read. A stop
            string counts only if it ends after the first ``min_tokens`` tokens.
        marked: tokens by id whose text is kept though they are special, or end the answer, and whose places are told.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_token_ids: Sequence[int],
        sampling: SamplingParams,
        marked: Mapping[int, str] | None = None,
    ) -> None:
        self._spell = tokenizer.token_bytes_table(skip_special_tokens=sampling.skip_special_tokens).__getitem__
        self._includes_stop = sampling.include_stop_str_in_output
        self._min_tokens = sampling.min_tokens
        self._matcher: StopStringMatcher | None = None
        if sampling.stop:
            self._matcher = StopStringMatcher(sampling.stop, include_match=self._includes_stop)
        self._strips_space = tokenizer.strips_leading_space and not any(map(self._spell, prompt_token_ids))
        self._unfinished = self._unfinished_bytes(prompt_token_ids)
        self.num_tokens_used = 0
        self._marked = marked or {}
        self.has_marks = bool(self._marked)
        self._num_decoded = self._num_taken = 0
        self._places: list[int] = []

    @property
    def stop_reason(self) -> str | None:
        """The stop string that ended the answer, None while there is none."""
        return self._matcher.matched if self._matcher is not None else None

    def push(self, token_ids: Sequence[int], *, ends_with_stop_token: bool = False) -> str:
        """Takes the next tokens and returns the text that is certain now.

        ``ends_with_stop_token`` says that the engine stopped at the last of them (end of sequence, or one of
        ``stop_token_ids``): its text does not belong to the answer, unless ``include_stop_str_in_output`` asks for it.
        """
        if self._matcher is not None or self._marked:
            return self._push_each(token_ids, ends_with_stop_token)
        self.num_tokens_used += len(token_ids)
        if ends_with_stop_token and not self._includes_stop:
            token_ids = token_ids[:-1]
        return self._decode(b"".join(map(self._spell, token_ids)))

    def finish(self) -> str:
        """Returns what is still held: no token follows. A character that stayed unfinished becomes U+FFFD."""
        if self.stop_reason is not None:
            return ""
        text = self._decode(b"", is_last=True)
        if self._matcher is None:
            return text
        released = self._matcher.push(text, may_stop=self.num_tokens_used > self._min_tokens)
        return released + self._matcher.flush()

    def take_marks(self, num_characters: int) -> list[int]:
        """Where marked tokens begin in the next ``num_characters`` that were released, from their first on."""
        start, self._num_taken = self._num_taken, self._num_taken + num_characters
        marks = [place - start for place in self._places if place < self._num_taken]
        del self._places[: len(marks)]
        return marks

    def _push_each(self, token_ids: Sequence[int], ends_with_stop_token: bool) -> str:
        """Token by token, so that it is known where each one's text begins and ends."""
        if self.stop_reason is not None:
            return ""
        released: list[str] = []
        for place, token_id in enumerate(token_ids):
            mark = self._marked.get(token_id)
            data = self._spell(token_id) if mark is None else mark.encode()
            if ends_with_stop_token and place == len(token_ids) - 1 and mark is None and not self._includes_stop:
                data = b""
            self.num_tokens_used += 1
            text = self._decode(data)
            self._num_decoded += len(text)
            if mark is not None:
                self._places.append(self._num_decoded - len(mark))
            if self._matcher is None:
                released.append(text)
            elif text:
                released.append(self._matcher.push(text, may_stop=self.num_tokens_used > self._min_tokens))
                if self._matcher.matched is not None:
                    break
        return "".join(released)

    def _decode(self, data: bytes, *, is_last: bool = False) -> str:
        data = self._unfinished + data
        text, num_decoded = codecs.utf_8_decode(data, "replace", is_last)
        self._unfinished = data[num_decoded:]
        if self._strips_space and text:
            self._strips_space = False
            return text.removeprefix(" ")
        return text

    def _unfinished_bytes(self, prompt_token_ids: Sequence[int]) -> bytes:
        """The prompt's last bytes where they begin a character that they do not finish; it has four bytes at most."""
        tail = b""
        for token_id in reversed(prompt_token_ids):
            tail = self._spell(token_id) + tail
            if len(tail) >= 4:
                break
        return tail[codecs.utf_8_decode(tail, "replace", False)[1] :]
