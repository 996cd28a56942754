"""When a request ends after a token: by the token itself or by a limit; knows nothing of text. Called by Scheduler.

Stop strings are the web process's: it sees the text and aborts.
"""

from __future__ import annotations

from typing import NamedTuple

from yeoul.messages.outputs import FinishReason
from yeoul.scheduler.request import Request


class Ending(NamedTuple):
    """Why a request ends, and the token of ``stop_token_ids`` that ended it, if one did."""

    reason: FinishReason
    stop_token_id: int | None = None


_BY_EOS = Ending("stop")
_BY_LENGTH = Ending("length")


def find_ending(request: Request, max_num_tokens: int) -> Ending | None:
    """Whether ``request`` ends with its last token; ``max_num_tokens`` bounds prompt and output together."""
    message = request.message
    sampling = message.sampling
    num_tokens = len(request.token_ids)
    num_output_tokens = num_tokens - request.num_prompt_tokens
    if num_output_tokens >= sampling.min_tokens:
        token_id = request.token_ids[-1]
        if token_id in message.eos_token_ids:
            return _BY_EOS
        if token_id in sampling.stop_token_ids:
            return Ending("stop", token_id)
    if num_tokens >= max_num_tokens or (sampling.max_tokens is not None and num_output_tokens >= sampling.max_tokens):
        return _BY_LENGTH
    return None
