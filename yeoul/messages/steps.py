"""What EngineCore and a worker say to each other: ``ExecutorMessage`` out, ``WorkerMessage`` back.

A request's state lives on both sides. The worker learns of it once (``NewRequest``), appends the tokens that it samples
itself, and from then on hears only of new block ids and counters; in a pipeline the last stage alone samples, and the others
hear of its tokens, too. A preempted request is forgotten by the worker and comes
back as a ``NewRequest`` with its output so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from yeoul.messages.outputs import RequestFault, TokenLogprobs
from yeoul.messages.sampling import SamplingParams

# An answer beyond these bounds is not one: whoever decodes it is told so, and the worker counts as broken.
TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
StepSeconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e6)]
_Clock = Annotated[float, msgspec.Meta(ge=0.0, le=1e12)]


class NewRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a worker needs of a request. ``block_ids`` and the counters come in the request's ``ScheduledRequest``."""

    request_id: str
    prompt_token_ids: list[int]
    output_token_ids: list[int] = []
    sampling: SamplingParams
    eos_token_ids: list[int] = []
    choice_index: int = 0
    pooling: str | None = None


class ScheduledRequest(msgspec.Struct, frozen=True, array_like=True):
    """One request's part of a step: compute ``num_new_tokens`` tokens from position ``num_computed_tokens``.

    The worker samples if and only if these tokens reach the end of what is known (prompt + output so far).
    ``new_block_ids`` are appended to the request's block table before the step.
    """

    request_id: str
    num_computed_tokens: int
    num_new_tokens: int
    new_block_ids: list[int]


NEIGHBOUR_SLOTS = 1 << 32
"""More than a part of the tier has."""


class BlockMove(msgspec.Struct, frozen=True, array_like=True):
    """A block of the cache and its ``slot`` in the tier below; ``name`` is its hash, ``stamp`` grows from use to use."""

    block_id: int
    slot: int
    name: bytes
    stamp: int


class StepInput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="step"):
    """One step. ``finished_request_ids`` (finished, aborted or preempted) are forgotten before new ones are added.

    What is in the blocks of ``stores`` before the step goes to their slots, after ``emptied_slots`` are empty; the slots of
    ``loads`` go to blocks that no step touches meanwhile. Nobody waits for that, but a step of no requests, for a moment.
    Where a load's slot is ``NEIGHBOUR_SLOTS`` or more, as many times as that goes into it says whose of ``neighbours`` it
    is, from 1 on, and the rest is the slot.
    ``sampled``, of a pipeline, are the tokens that requests of the step got since they were last in one.
    """

    step_number: int
    new_requests: list[NewRequest] = []
    scheduled: list[ScheduledRequest] = []
    finished_request_ids: list[str] = []
    stores: list[BlockMove] = []
    loads: list[BlockMove] = []
    emptied_slots: list[int] = []
    neighbours: list[str] = []
    sampled: dict[str, list[int]] = {}


class TierFiles(msgspec.Struct, frozen=True):
    """Where the tier below the cache lies: of each rank the file of its slots, and of what is in them.

    At most ``max_num_stores`` blocks are on their way to it at a time.
    """

    slot_paths: list[str]
    entry_paths: list[str]
    max_num_stores: int


class AllocateCache(msgspec.Struct, frozen=True, tag="allocate"):
    """Allocate the KV cache; answered by ``CallResult`` with ``call_id``."""

    call_id: int
    num_blocks: int
    tier: TierFiles | None = None


class WorkerCall(msgspec.Struct, frozen=True, tag="call"):
    """``collective_rpc``: call a method that Worker names as callable from outside; answered by ``CallResult``."""

    call_id: int
    method: str
    arguments: list[str] = []


class EndWorker(msgspec.Struct, frozen=True, tag="end"):
    """Leave the loop and exit with code 0."""


ExecutorMessage = StepInput | AllocateCache | WorkerCall | EndWorker


class RequestResult(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a step made for one request. ``fault`` fails this request alone. ``embedding`` is float32, little endian."""

    request_id: str
    token_ids: list[TokenId] = []
    logprobs: list[TokenLogprobs] = []
    prompt_logprobs: list[TokenLogprobs | None] = []
    fault: RequestFault | None = None
    embedding: bytes | None = None


class MoveResult(msgspec.Struct, frozen=True, array_like=True):
    """A block has come to its slot, or from it, or the slot is empty, on one rank; or it is not so, and why."""

    slot: int
    failure: str | None = None


class StepResult(msgspec.Struct, frozen=True, tag="step"):
    """The answer to ``StepInput`` of the same number: an entry for each request that sampled, embedded or failed.

    Every rank answers; only the first of the last stage fills ``results``. ``digest`` is of the tokens and faults that the
    rank found, which have to be the same on all of a stage. The rank ``began`` at that time of its host's monotonic clock, or
    0 where EngineCore has another one; the last ``sample_seconds`` of its ``compute_seconds`` went by behind the model:
    tokens were drawn, prompts scored, vectors pooled. ``moves`` have ended since the last answer, whichever step they were
    of; the executor joins those of all ranks. ``stage_seconds`` it fills in, of a pipeline: what each stage computed.
    """

    step_number: int
    results: list[RequestResult] = []
    compute_seconds: StepSeconds = 0.0
    digest: int = 0
    began: _Clock = 0.0
    sample_seconds: StepSeconds = 0.0
    moves: list[MoveResult] = []
    stage_seconds: list[StepSeconds] = []


class CallResult(msgspec.Struct, frozen=True, tag="result"):
    """The answer to ``AllocateCache`` or ``WorkerCall``; ``error`` is None where it went well."""

    call_id: int
    value: str = ""
    error: str | None = None


WorkerMessage = StepResult | CallResult


def join_results(results: Sequence[WorkerMessage], num_stages: int = 1) -> StepResult:
    """What the first rank of the last stage answers, with the moves of all ranks and the time of all stages."""
    answers = [result for result in results if isinstance(result, StepResult)]
    firsts = answers[:: len(answers) // num_stages]
    joined = firsts[-1]
    if moves := [move for answer in answers for move in answer.moves]:
        joined = msgspec.structs.replace(joined, moves=moves)
    if num_stages > 1:
        seconds = [first.compute_seconds for first in firsts]
        began = firsts[0].began
        joined = msgspec.structs.replace(joined, compute_seconds=sum(seconds), began=began, stage_seconds=seconds)
    return joined
