"""GenerationOutput: what one choice of a request gained since its reader last looked; knows nothing of HTTP or the engine.

``RequestState`` makes them, ``RequestStream`` merges those that a slow reader has not taken, the routes and scripts read.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from yeoul.errors import RequestFailedError
from yeoul.messages.outputs import FinishReason, TokenLogprobs
from yeoul.web_process.engine.vectors import as_numbers


class AnswerTimes(NamedTuple):
    """How long a choice took, in seconds: in all, waiting for its turn, up to its first token, and for the rest."""

    total: float
    queue: float
    prompt: float
    generation: float


class GenerationOutput(msgspec.Struct, kw_only=True):
    """A delta of one choice.

    ``text`` is new text; ``token_ids`` are the new tokens, with an entry each in ``logprobs`` where those were asked for.
    Text is held back while it could be half a character or the beginning of a stop string, so tokens can come without
    text. ``marks`` are the places in it where tokens begin that the answer's reader has to know. ``prompt_logprobs`` comes
    once, with the first delta. ``num_output_tokens`` counts the choice's tokens so far, ``num_cached_tokens`` those of the
    prompt that were read from the cache, and ``num_leased_tokens`` those that leases keep there.
    ``finish_reason`` is set in the last delta of a choice; ``stop_reason`` is then the stop string or the stop token's id.
    ``times`` come with the last delta of a choice that ended by itself or at a limit.
    ``embedding`` holds float32 values, little endian, where a vector was asked for.
    """

    request_id: str
    prompt_index: int
    choice_index: int
    seed: int
    num_prompt_tokens: int
    text: str = ""
    marks: list[int] = []
    token_ids: list[int] = []
    logprobs: list[TokenLogprobs] = []
    prompt_logprobs: list[TokenLogprobs | None] = []
    num_output_tokens: int = 0
    num_cached_tokens: int = 0
    num_leased_tokens: int = 0
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    embedding: bytes | None = None
    times: AnswerTimes | None = None

    @property
    def num_written_tokens(self) -> int:
        """Tokens of the prompt that were computed and that leases keep from now on."""
        return max(0, self.num_leased_tokens - self.num_cached_tokens)

    @property
    def vector_bytes(self) -> bytes:
        """``embedding``.

        Raises:
            RequestFailedError: there is none.
        """
        if self.embedding is None:
            raise RequestFailedError(f"the request ended without a vector ({self.finish_reason})")
        return self.embedding

    @property
    def vector(self) -> list[float]:
        """The values of ``embedding``. Raises as ``vector_bytes``."""
        return as_numbers(self.vector_bytes)

    def merge(self, later: GenerationOutput) -> None:
        """Takes in the delta that came after this one, of the same choice."""
        if later.marks:
            self.marks = self.marks + [len(self.text) + mark for mark in later.marks]
        self.text += later.text
        self.token_ids += later.token_ids
        self.logprobs += later.logprobs
        self.prompt_logprobs += later.prompt_logprobs
        self.num_output_tokens = later.num_output_tokens
        self.num_cached_tokens = later.num_cached_tokens
        self.num_leased_tokens = later.num_leased_tokens
        self.finish_reason = later.finish_reason
        self.stop_reason = later.stop_reason
        self.embedding = later.embedding
        self.times = later.times
