"""Makes the requests that cross to the engine, a prompt and a choice each, and the state that waits for each.

Knows nothing of HTTP. ``AsyncLLM`` calls it with prompts and parameters that the door has checked.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import Mapping, Sequence

import msgspec

from yeoul.messages.outputs import RequestOutput
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.engine.model_text import ModelText
from yeoul.web_process.engine.request_observer import Requester, RequestObserver
from yeoul.web_process.engine.request_state import RequestState
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.ticket import Ticket

_NUM_STATES_AT_A_TIME = 64


class NewRequests:
    """Draws seeds from the server's own, and gives every request an id that is never used twice.

    ``mark`` tells those of one process from those of others in front of the same engines.
    """

    def __init__(self, seed: int, mark: str = "") -> None:
        self._seeds = random.Random(f"{seed} {mark}" if mark else seed)
        self._mark = mark
        self._serial_numbers = itertools.count()

    def choose_seeds(self, wanted: int | None, num_prompts: int) -> list[int]:
        """A seed a prompt: the request's for all of them, else drawn here (small enough for any JSON reader).

        So a prompt in a list is answered as it is alone, and equal prompts without a seed are answered differently.
        """
        return [wanted if wanted is not None else self._seeds.getrandbits(48) for _ in range(num_prompts)]

    async def make(
        self,
        stream: RequestStream,
        samplings: Sequence[SamplingParams],
        pooling: str | None,
        marked: Mapping[int, str],
        text: ModelText,
        observer: RequestObserver,
        ticket: Ticket,
    ) -> list[RequestState]:
        """A state for each choice of each prompt; others have their turn on the loop after every few."""
        stream.tokenized_at = time.monotonic()
        terms = ticket.terms
        if terms.in_gaps:
            observer = RequestObserver()  # nobody waits for it: its times say nothing of what others have
        who = Requester(stream.request_id, terms.model, terms.tenant, terms.traceparent)
        states: list[RequestState] = []
        for prompt_index, (prompt_token_ids, sampling) in enumerate(zip(stream.prompts, samplings, strict=True)):
            one_choice = msgspec.structs.replace(sampling, n=1, seed=stream.seeds[prompt_index])
            for choice_index in range(sampling.n):
                add = AddRequest(
                    request_id=f"{stream.request_id}/{prompt_index}.{choice_index}#{self._mark}{next(self._serial_numbers)}",
                    prompt_token_ids=prompt_token_ids,
                    sampling=one_choice,
                    eos_token_ids=[] if sampling.ignore_eos else text.eos_token_ids,
                    choice_index=choice_index,
                    priority=terms.priority,
                    in_gaps=terms.in_gaps,
                    cache_salt=terms.cache_salt,
                    tenant=terms.tenant,
                    pooling=pooling,
                    leases=stream.leases if prompt_index == 0 else [],
                )
                detokenizer = text.detokenizer(prompt_token_ids, sampling, marked)
                state = RequestState(add, stream, detokenizer, observer, ticket.arrival, who=who, prompt_index=prompt_index)
                states.append(state)
                if len(states) % _NUM_STATES_AT_A_TIME == 0:
                    await asyncio.sleep(0)
        return states


async def replay(state: RequestState, made: Sequence[RequestOutput]) -> None:
    """Its reader is told what was made of it before, each token on its own; others have their turn after every few."""
    state.stream.keeps_apart = True
    for start in range(0, len(made), _NUM_STATES_AT_A_TIME):
        state.replay(made[start : start + _NUM_STATES_AT_A_TIME])
        await asyncio.sleep(0)


def unique_id(request_id: str) -> str:
    """An id that no other request has, in which a client's own can be found."""
    fresh = uuid.uuid4().hex
    return f"{request_id}~{fresh[:12]}" if request_id else fresh
