"""What the scheduler refuses to take, whatever came through the door before it; knows no state. Called by Scheduler.add.

The web process checks the same and more with better words. A client that does not must harm nobody but itself: what a worker
cannot compute would take everybody's step with it.
"""

from __future__ import annotations

from yeoul.errors import InvalidRequestError
from yeoul.messages.outputs import RequestFault
from yeoul.messages.requests import AddRequest

_MAX_INDEX = 2**31 - 1
_POOLINGS = ("last", "mean")
_MAX_NUM_LEASES = 4


def find_flaw(message: AddRequest, max_num_tokens: int, vocab_size: int) -> RequestFault | None:
    """A fault with status 400 for a request that nobody could compute, or with nothing to do; None for a good one.

    ``max_num_tokens`` is how many tokens one request may have, by the model's context and by the size of the cache.
    """
    try:
        _check_values(message, vocab_size)
        _check_room(message, max_num_tokens)
    except InvalidRequestError as error:
        return RequestFault(error.message, error.status)
    return None


def _check_values(message: AddRequest, vocab_size: int) -> None:
    if not message.prompt_token_ids:
        raise InvalidRequestError("the prompt has no tokens; send at least one")
    message.sampling.check(vocab_size)
    _check_range("prompt_token_ids", message.prompt_token_ids, vocab_size - 1)
    _check_range("output_token_ids", message.output_token_ids, vocab_size - 1)
    _check_range("eos_token_ids", message.eos_token_ids, vocab_size - 1)
    _check_range("choice_index", [message.choice_index], _MAX_INDEX)
    if message.pooling not in (None, *_POOLINGS):
        raise InvalidRequestError(f"pooling is {message.pooling[:40]!r}; expected one of {_POOLINGS}")
    if len(message.leases) > _MAX_NUM_LEASES:
        raise InvalidRequestError(f"the request has {len(message.leases)} leases; expected at most {_MAX_NUM_LEASES}")
    for lease in message.leases:
        _check_range("num_tokens of a lease", [lease.num_tokens], len(message.prompt_token_ids))
        if not 0 < lease.seconds < _MAX_INDEX:
            raise InvalidRequestError(f"a lease is for {lease.seconds} s; expected more than 0, and at most {_MAX_INDEX}")


def _check_range(field: str, values: list[int], highest: int) -> None:
    if values and not (min(values) >= 0 and max(values) <= highest):
        raise InvalidRequestError(f"{field} reaches from {min(values)} to {max(values)}; expected 0 to {highest}")


def _check_room(message: AddRequest, max_num_tokens: int) -> None:
    num_prompt, num_output = len(message.prompt_token_ids), len(message.output_token_ids)
    room = max_num_tokens if message.pooling is not None else max_num_tokens - 1
    if num_prompt + num_output > room:
        raise InvalidRequestError(
            f"the prompt has {num_prompt} tokens and {num_output} tokens of output, but at most {room} fit (the model's "
            f"context and the cache hold {max_num_tokens}); shorten the prompt or give the cache more memory"
        )
    max_tokens = message.sampling.max_tokens
    if message.pooling is None and max_tokens is not None and num_output >= max_tokens:
        raise InvalidRequestError(
            f"max_tokens is {max_tokens} and the request has {num_output} tokens of output already; nothing is left"
        )
