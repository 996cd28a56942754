"""What EngineCore refuses to hand to its workers, because they could not compute it; knows no queue. ``core`` calls it.

The web process checks the same with better words. A client that does not must harm nobody but itself: a worker that such a
request ended would take everybody's step with it.
"""

from __future__ import annotations

from yeoul.errors import InvalidRequestError
from yeoul.messages.outputs import RequestFault
from yeoul.messages.requests import AddRequest

_MAX_INDEX = 2**31 - 1
_POOLINGS = ("last", "mean")


def find_harm(request: AddRequest, vocab_size: int) -> RequestFault | None:
    """A fault with status 400 that names what is wrong with the request; None for a good one."""
    try:
        request.sampling.check(vocab_size)
        _check_range("prompt_token_ids", request.prompt_token_ids, vocab_size - 1)
        _check_range("output_token_ids", request.output_token_ids, vocab_size - 1)
        _check_range("eos_token_ids", request.eos_token_ids, _MAX_INDEX)  # some models name one that they do not have
        _check_range("prompt_index", [request.prompt_index], _MAX_INDEX)
        _check_range("choice_index", [request.choice_index], _MAX_INDEX)
        if request.pooling not in (None, *_POOLINGS):
            raise InvalidRequestError(f"pooling is {request.pooling[:40]!r}; expected one of {_POOLINGS}")
    except InvalidRequestError as error:
        return RequestFault(error.message, error.status)
    return None


def _check_range(field: str, values: list[int], highest: int) -> None:
    if values and not (min(values) >= 0 and max(values) <= highest):
        raise InvalidRequestError(f"{field} reaches from {min(values)} to {max(values)}; expected 0 to {highest}")
