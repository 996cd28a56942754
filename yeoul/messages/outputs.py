"""What EngineCore says to the web process: one tagged union, ``EngineMessage``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from yeoul.errors import UserError
from yeoul.messages.kv_events import KVEventSource
from yeoul.messages.statistics import EngineStatistics

FinishReason = Literal["stop", "length", "abort", "error"]


class TokenLogprobs(msgspec.Struct, frozen=True, array_like=True):
    """Log probabilities (natural) at one position: entry 0 is the token itself, the rest the most likely ones in order.

    ``rank`` is the token's place in the vocabulary by probability, from 1.
    """

    token_ids: list[int]
    logprobs: list[float]
    rank: int


class RequestFault(msgspec.Struct, frozen=True):
    """Why a request failed, with the HTTP status that it deserves."""

    message: str
    status: int = 500

    @classmethod
    def because(cls, what: str, error: Exception) -> RequestFault:
        """``what`` could not be done for ``error``: the client's own mistake keeps its status."""
        if isinstance(error, UserError):
            return cls(f"{what}: {error.message}", error.status)
        return cls(f"{what}: {type(error).__name__}: {error}")


class RequestOutput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one request gained in a step.

    ``stop_reason`` is the token id that ended it, if one of ``stop_token_ids`` did. ``num_cached_tokens`` (prompt tokens
    that came from the prefix cache), ``num_leased_tokens`` (that leases will keep), ``queue_seconds`` and of these
    ``load_seconds`` (in which its blocks were read) come with the first output. ``prompt_logprobs`` has an entry a prompt
    token, the first one None. ``embedding`` holds float32 values, little endian. ``is_kept``: the prompt of a request that
    ``hands_over`` lies below the cache, where other engines find it. ``turn`` is the request's, as it was when it was added.
    """

    request_id: str
    new_token_ids: list[int] = []
    new_logprobs: list[TokenLogprobs] = []
    prompt_logprobs: list[TokenLogprobs | None] = []
    finish_reason: FinishReason | None = None
    stop_reason: int | None = None
    fault: RequestFault | None = None
    num_cached_tokens: int = 0
    num_leased_tokens: int = 0
    queue_seconds: float | None = None
    load_seconds: float = 0.0
    embedding: bytes | None = None
    is_kept: bool = False
    turn: int = 0


_Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e12)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class StepParts(msgspec.Struct, frozen=True, array_like=True):
    """What a step's time went to, one after the other, in seconds: ``schedule`` before it was handed out, all others behind.

    It was planned (``schedule``), waited for the workers to be done with the one before (``behind``), reached them (``out``),
    the model was run (``compute``), tokens were drawn (``sample``), the answer came back, that of the slowest rank and
    what lay between the stages of a pipeline included (``back``), and was put into the scheduler's books (``update``).
    """

    schedule: _Seconds = 0.0
    behind: _Seconds = 0.0
    out: _Seconds = 0.0
    compute: _Seconds = 0.0
    sample: _Seconds = 0.0
    back: _Seconds = 0.0
    update: _Seconds = 0.0


class StepFacts(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """A step that came back: from ``started`` of EngineCore's monotonic clock it took so many ``seconds``, its answer's
    reading included.

    It computed ``num_tokens`` tokens of ``num_requests`` requests; the next ``num_outputs`` outputs of the message are its
    own. ``prompts`` are those of which it computed several tokens, and how many; of all others that have an output, one.
    ``parts`` is what the time went to.
    """

    number: _Count
    started: _Seconds
    seconds: _Seconds
    num_tokens: _Count
    num_requests: _Count
    num_outputs: _Count
    prompts: list[tuple[str, _Count]] = []
    parts: StepParts = StepParts()


class StepOutputs(msgspec.Struct, frozen=True, omit_defaults=True, tag="outputs"):
    """Everything that ``steps`` made, for all requests; ``begun`` are those that the workers have got since the last one.

    ``sent`` is when EngineCore said so, of its monotonic clock; ``engine`` is its number, where there are several.
    """

    outputs: list[RequestOutput] = []
    statistics: EngineStatistics | None = None
    begun: list[str] = []
    steps: list[StepFacts] = []
    sent: _Seconds = 0.0
    engine: _Count = 0


class WorkerInfo(msgspec.Struct, frozen=True):
    """A worker as the terminal and the live page show it; ``rank`` counts those of all engines."""

    rank: int
    pid: int
    device: str


class EngineReady(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """EngineCore takes requests from now on. ``num_blocks`` blocks of ``block_size`` tokens, ``cache_bytes`` in all.

    ``shape_digest`` names the model's description, which a client that found the model by itself compares with its own.
    ``kv_events`` is where events about its blocks are read, if anywhere. ``pids`` are those of several engines that are told
    as one.
    """

    version: str
    pid: int
    num_blocks: int
    block_size: int
    cache_bytes: int
    max_model_len: int
    model_fingerprint: str
    shape_digest: str = ""
    workers: list[WorkerInfo]
    kv_events: KVEventSource | None = None
    pids: list[int] = []


def join_ready(said: Sequence[EngineReady]) -> EngineReady:
    """What several engines of one server said, as one: their caches added up, and the context that all of them have."""
    first = said[0]
    if len(said) == 1:
        return first
    return msgspec.structs.replace(
        first,
        num_blocks=sum(one.num_blocks for one in said),
        cache_bytes=sum(one.cache_bytes for one in said),
        max_model_len=min(one.max_model_len for one in said),
        workers=[worker for one in said for worker in one.workers],
        pids=[one.pid for one in said],
    )


class UtilityResult(msgspec.Struct, frozen=True, tag="result"):
    """The answer to a ``UtilityCall``: ``value``, or ``error`` where the call failed."""

    call_id: int
    value: str = ""
    error: str | None = None


class EngineDead(msgspec.Struct, frozen=True, tag="dead"):
    """EngineCore is about to end because of ``cause``; ``details`` is the traceback.

    ``is_final``: it has replaced its workers often enough, and another EngineCore would fare no better.
    """

    role: str
    cause: str
    details: str = ""
    exit_code: int | None = None
    is_final: bool = False


class WorkersLost(msgspec.Struct, frozen=True, tag="lost"):
    """A worker died or hung: all are replaced, and nothing is computed before ``WorkersReplaced``, or ``EngineDead``.

    A death counts against ``suspect_ids``, this one or one before.
    """

    role: str
    cause: str
    exit_code: int | None = None
    suspect_ids: list[str] = []


class WorkersReplaced(msgspec.Struct, frozen=True, tag="replaced"):
    """New workers have taken the place of those that were lost ``seconds`` ago; what ran goes on."""

    workers: list[WorkerInfo]
    seconds: float


EngineMessage = EngineReady | StepOutputs | UtilityResult | EngineDead | WorkersLost | WorkersReplaced
