"""ResponseFormat: how an answer of ``/v1/responses`` is written, whole or as events; knows no engine and no socket."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

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
        self._writer = writer
        self._choice = choice
        self._tokenizer = tokenizer
        self._has_begun = False
        self._waiting: list[TokenLogprobs] = []  # of tokens whose text has not come yet
        self.counts = Counts(num_prompt_tokens)

    def events(self, output: GenerationOutput) -> bytes:
        """See ``EventFormat``."""
        events = self._begin()
        self._note(output)
        self._waiting += output.logprobs
        for part in self._choice.parts(output):
            logprobs = self._take_logprobs() if isinstance(part, TextPart) else []
            self._waiting.clear()
            events += self._writer.add(part, logprobs)
        if output.finish_reason is not None:
            events += self._end(output)
        return events

    def closing(self) -> bytes:
        """See ``EventFormat``: the last event has said it all."""
        return b""

    def failure(self, error: YeoulError) -> bytes:
        """See ``EventFormat``."""
        response = self._writer.response
        begin = self._begin()
        response.status, response.error = "failed", error
        return begin + self._writer.end(self.counts, is_whole=False)

    def whole(self, outputs: Iterable[GenerationOutput]) -> bytes:
        """The whole answer as one JSON object."""
        for output in outputs:
            self.events(output)
        return self._writer.object(self.counts)

    def _begin(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        return self._writer.begin()

    def _note(self, output: GenerationOutput) -> None:
        self.counts.num_output_tokens = output.num_output_tokens
        self.counts.num_cached_tokens = output.num_cached_tokens

    def _end(self, output: GenerationOutput) -> bytes:
        """Why it ended is the response's status."""
        self.counts.num_reasoning_tokens = self._choice.num_reasoning_tokens
        response, reason = self._writer.response, output.finish_reason
        if reason == "stop":
            response.status, response.completed_at = "completed", int(time.time())
        elif reason == "abort":
            response.status = "cancelled"
        else:
            response.status, response.incomplete_reason = "incomplete", "max_output_tokens"
        return self._writer.end(self.counts, is_whole=reason == "stop")

    def _take_logprobs(self) -> list[msgspec.Raw]:
        """Each encoded on its own, so that no call of the encoder takes long."""
        return [msgspec.Raw(encode_json(self._logprob(entry))) for entry in self._waiting]

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
