"""RequestState: what a worker keeps of one request between steps; knows nothing of tensors or of other requests.

``InputBatch`` makes one for each new request and keeps the request's tokens and block table in its own arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from yeoul.messages.outputs import TokenLogprobs
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import NewRequest


@dataclass(slots=True)
class RequestState:
    """One request as its worker knows it.

    Attributes:
        row: the request's row in the arrays of the batch, its own until it is forgotten.
        num_prompt_tokens: where the output begins.
        prompt_logprobs: collected chunk by chunk, and sent with the first token; None where nobody asked for them, or
            where they were sent before this worker met the request (it came with output).
        runner_data: whatever the model runner wants to keep with the request, such as its prepared sampler.
    """

    request_id: str
    row: int
    num_prompt_tokens: int
    sampling: SamplingParams
    eos_token_ids: list[int]
    choice_index: int
    pooling: str | None
    prompt_logprobs: list[TokenLogprobs | None] | None = None
    runner_data: object = field(default=None, repr=False)


def request_state_from_message(message: NewRequest, row: int) -> RequestState:
    """Makes the state of a request that lives in ``row`` of the batch."""
    wants_prompt_logprobs = message.sampling.prompt_logprobs is not None and not message.output_token_ids
    return RequestState(
        request_id=message.request_id,
        row=row,
        num_prompt_tokens=len(message.prompt_token_ids),
        sampling=message.sampling,
        eos_token_ids=message.eos_token_ids,
        choice_index=message.choice_index,
        pooling=message.pooling,
        prompt_logprobs=[None] if wants_prompt_logprobs else None,
    )
