"""ResponseFormat: how an answer of ``/v1/responses`` is written, whole or as events; knows no engine and no socket."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from yeoul.errors import YeoulError
from yeoul.messages.outputs import TokenLogprobs
from yeoul.text.answers.parts import TextPart
from yeoul.text.tokenizer import Tokenizer
from yeoul.web_process.answers.choice_reader import ChoiceReader
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.http.sse import EMPTY_EVENT, EVENTS
from yeoul.web_process.responses.response_object import Counts, encode_json
from yeoul.web_process.responses.response_writer import ResponseWriter

_LOWEST_LOGPROB = -9999.0


class CacheUse(NamedTuple):
    """How many tokens of the prompt were read from the cache, and how many leases keep there from now on."""

    num_read: int
    num_written: int


class ResponseFormat:
    """One answer.

    Args:
        writer: of its events.
        choice: what its deltas are made of.
        tokenizer: names the tokens beside their log probabilities.
        num_prompt_tokens: of the prompt.
    """

    content_type = EVENTS
    keep_alive = EMPTY_EVENT

    def __init__(self, writer: ResponseWriter, choice: ChoiceReader, tokenizer: Tokenizer, num_prompt_tokens: int) -> None:
        self.work_a_character = choice.work_a_character
        self.response = writer.response
        self.cache_use: CacheUse | None = None
        self._writer = writer
        self._choice = choice
        self._tokenizer = tokenizer
        self._has_begun = False
        self._last: GenerationOutput | None = None
        self._end: bytes | None = None
        self._waiting: list[TokenLogprobs] = []  # of tokens whose text has not come yet
        self._is_in_text = False
        self.counts = Counts(num_prompt_tokens)

    @property
    def is_over(self) -> bool:
        """Whether the last delta has come."""
        return self._last is not None

    def events(self, output: GenerationOutput) -> bytes:
        """See ``EventFormat``; the last ones come with ``closing``."""
        events = self._begin()
        self._note(output)
        self._waiting += output.logprobs
        for part in self._choice.parts(output):
            logprobs = self._take_logprobs(part.text) if isinstance(part, TextPart) else []
            self._waiting.clear()
            self._is_in_text = isinstance(part, TextPart)
            events += self._writer.add(part, logprobs)
        if output.finish_reason is not None:
            self._last = output
        return events

    def finish(self) -> None:
        """What ``closing`` will tell is certain from now on: ``now`` and ``output`` are as they will be."""
        if self._end is None and self._last is not None:
            self._end = self._close(self._last)

    def now(self) -> bytes:
        """The response as it is, with the items that are complete."""
        return self._writer.object(None if self._end is None else self.counts)

    def output(self) -> bytes:
        """Its items that are complete, as a list."""
        return b"[%b]" % b",".join(self._writer.output)

    def closing(self) -> bytes:
        """See ``EventFormat``."""
        self.finish()
        return self._end or b""

    def failure(self, error: YeoulError) -> bytes:
        """See ``EventFormat``."""
        events = self._begin()
        if self._end is not None:  # it was complete, and nobody has been told
            events += self._writer.without_last(self._end)
        response = self.response
        response.status, response.error, response.completed_at = "failed", error, None
        self._end = self._writer.end(self.counts, is_whole=False)
        return events + self._end

    def whole(self, outputs: Iterable[GenerationOutput]) -> bytes:
        """The whole answer as one JSON object."""
        for output in outputs:
            self.events(output)
        self.finish()
        return self.now()

    def _begin(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        return self._writer.begin()

    def _note(self, output: GenerationOutput) -> None:
        self.counts.num_output_tokens = output.num_output_tokens
        if self.cache_use is None:  # an engine that took the place of a dead one has other blocks
            self.cache_use = CacheUse(output.num_cached_tokens, output.num_written_tokens)
        self.counts.num_cached_tokens, self.counts.num_written_tokens = self.cache_use

    def _close(self, output: GenerationOutput) -> bytes:
        """Why it ended is the response's status."""
        self.counts.num_reasoning_tokens = self._choice.num_reasoning_tokens
        response, reason = self.response, output.finish_reason
        if reason == "stop":
            response.status, response.completed_at = "completed", int(time.time())
        elif reason == "abort":
            response.status = "cancelled"
        else:
            response.status, response.incomplete_reason = "incomplete", "max_output_tokens"
        return self._writer.end(self.counts, is_whole=reason == "stop")

    def _take_logprobs(self, text: str) -> list[msgspec.Raw]:
        """Of the tokens of ``text``. Each is encoded on its own, so that no call of the encoder takes long."""
        first = 0 if self._is_in_text else self._num_tokens_before(text.encode())
        return [msgspec.Raw(encode_json(self._logprob(entry))) for entry in self._waiting[first:]]

    def _num_tokens_before(self, text: bytes) -> int:
        """How many tokens wait that ended what came before the text, such as a tag behind thoughts."""
        written, pieces = b"", [self._tokenizer.token_bytes(entry.token_ids[0]) for entry in self._waiting]
        for place in reversed(range(len(pieces))):
            written = pieces[place] + written
            if len(written) >= len(text) and (written.startswith(text) or written.lstrip().startswith(text)):
                return place
        return 0

    def _logprob(self, entry: TokenLogprobs) -> dict[str, Any]:
        """OpenAI's object for one token, with the most likely ones in its place."""
        chosen, *top = (self._token(*pair) for pair in zip(entry.token_ids, entry.logprobs, strict=True))
        return {**chosen, "top_logprobs": top}

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": self._tokenizer.token_text(token_id),
            "bytes": list(self._tokenizer.token_bytes(token_id)),
            "logprob": max(logprob, _LOWEST_LOGPROB),
        }
