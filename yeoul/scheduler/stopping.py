"""When a request ends after a token: by the token itself or by a limit; knows nothing of text. Called by AnswerReader.

Stop strings are the web process's: it sees the text and aborts.
"""

from __future__ import annotations

from typing import NamedTuple

from yeoul.messages.outputs import FinishReason
from yeoul.messages.requests import AddRequest


class Ending(NamedTuple):
    """Why a request ends, and the token that ended it, if one did, unless it is the model's own end of sequence."""

    reason: FinishReason
    stop_token_id: int | None = None


class StopRule:
    """A request's conditions, prepared once so that asking after each token costs two comparisons and a look-up.

    ``max_num_tokens`` bounds prompt and output together; ``max_tokens`` and ``min_tokens`` count the output alone.
    """

    __slots__ = ("eos_token_id", "last_length", "stop_from_length", "stop_token_ids")

    def __init__(self, message: AddRequest, max_num_tokens: int) -> None:
        sampling = message.sampling
        num_prompt_tokens = len(message.prompt_token_ids)
        self.eos_token_id = next(iter(message.eos_token_ids), None)
        self.stop_token_ids = frozenset([*message.eos_token_ids, *sampling.stop_token_ids])
        self.stop_from_length = num_prompt_tokens + sampling.min_tokens
        self.last_length = max_num_tokens
        if message.pooling is not None:
            self.last_length = num_prompt_tokens + len(message.output_token_ids) + 1  # the vector stands for a token
        elif sampling.max_tokens is not None:
            self.last_length = min(max_num_tokens, num_prompt_tokens + sampling.max_tokens)

    def find_ending(self, token_id: int, length: int) -> Ending | None:
        """Whether a request of ``length`` tokens, prompt and output, ends with ``token_id``, its last one."""
        if token_id in self.stop_token_ids and length >= self.stop_from_length:
            return Ending("stop", None if token_id == self.eos_token_id else token_id)
        return Ending("length") if length >= self.last_length else None
