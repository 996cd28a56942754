"""What the scheduler refuses to take, whatever came through the door before it; knows no state. Called by Scheduler.add.

The web process checks the same and more with better words; these checks keep a request from harming the engine.
"""

from __future__ import annotations

from yeoul.kv_cache.block_hash import MAX_TOKEN_ID
from yeoul.messages.outputs import RequestFault
from yeoul.messages.requests import AddRequest


def find_flaw(message: AddRequest, max_num_tokens: int) -> RequestFault | None:
    """A fault with status 400 for a request that could never run or would have nothing to do; None for a good one.

    ``max_num_tokens`` is how many tokens one request may have, by the model's context and by the size of the cache.
    """
    prompt, output = message.prompt_token_ids, message.output_token_ids
    if not prompt:
        return _refuse("the prompt has no tokens; send at least one")
    for token_ids in (prompt, output):
        if token_ids and not (min(token_ids) >= 0 and max(token_ids) <= MAX_TOKEN_ID):
            return _refuse(f"the token ids reach from {min(token_ids)} to {max(token_ids)}; expected 0 to {MAX_TOKEN_ID}")
    room = max_num_tokens if message.pooling is not None else max_num_tokens - 1
    if len(prompt) + len(output) > room:
        return _refuse(
            f"the prompt has {len(prompt)} tokens and {len(output)} tokens of output, but at most {room} fit (the model's "
            f"context and the cache hold {max_num_tokens}); shorten the prompt or give the cache more memory"
        )
    max_tokens = message.sampling.max_tokens
    if message.pooling is None and max_tokens is not None and len(output) >= max_tokens:
        return _refuse(
            f"max_tokens is {max_tokens} and the request has {len(output)} tokens of output already; nothing is left"
        )
    return None


def _refuse(text: str) -> RequestFault:
    return RequestFault(message=text, status=400)
