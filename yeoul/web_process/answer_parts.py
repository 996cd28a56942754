"""The parts that every kind of answer has: ids, usage, and JSON with its constant parts encoded once; knows no route."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable

import msgspec

from yeoul.web_process.generation_output import GenerationOutput

encode_json = msgspec.json.Encoder().encode

# OpenAI's stand-in for the logarithm of a probability that rounds to nothing.
LOWEST_LOGPROB = -9999.0


class AnswerHead(msgspec.Struct, frozen=True, kw_only=True):
    """What all chunks of an answer share."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    seed: int

    def begin_json(self) -> bytes:
        """The head as the beginning of a JSON object, to be followed by further fields."""
        return encode_json(self)[:-1] + b","

    @classmethod
    def make(cls, prefix: str, kind: str, model: str, system_fingerprint: str, seed: int) -> AnswerHead:
        """A head with a fresh id such as ``cmpl-3f...`` and the time of now."""
        return cls(
            id=f"{prefix}-{uuid.uuid4().hex}",
            object=kind,
            created=int(time.time()),
            model=model,
            system_fingerprint=system_fingerprint,
            seed=seed,
        )


class Usage:
    """Counts the tokens of an answer as its deltas pass."""

    def __init__(self, num_prompt_tokens: int) -> None:
        self._num_prompt_tokens = num_prompt_tokens
        self._num_output_tokens: dict[tuple[int, int], int] = {}
        self._num_cached_tokens: dict[int, int] = {}

    def add(self, output: GenerationOutput) -> None:
        """Notes a delta."""
        self._num_output_tokens[output.prompt_index, output.choice_index] = output.num_output_tokens
        if output.choice_index == 0:
            self._num_cached_tokens[output.prompt_index] = output.num_cached_tokens

    def add_all(self, outputs: Iterable[GenerationOutput]) -> Usage:
        """Notes several, and returns itself."""
        for output in outputs:
            self.add(output)
        return self

    def to_json(self) -> bytes:
        """OpenAI's ``usage`` object. The prompt's tokens count once, whatever ``n`` is."""
        num_output_tokens = sum(self._num_output_tokens.values())
        return encode_json(
            {
                "prompt_tokens": self._num_prompt_tokens,
                "completion_tokens": num_output_tokens,
                "total_tokens": self._num_prompt_tokens + num_output_tokens,
                "prompt_tokens_details": {"cached_tokens": sum(self._num_cached_tokens.values())},
            }
        )
