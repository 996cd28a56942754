"""Request: the scheduler's state of one request; knows nothing of queues, budgets or blocks' contents. Called by Scheduler.

One counter instead of phases: ``num_computed_tokens`` catches up with what is known (prompt and output). Prefill, its
chunks, a prefix hit, decode and the way back after a preemption differ only in how large the gap is.
"""

from __future__ import annotations

import enum
import logging

import msgspec

from yeoul.kv_cache.block_hash import extend_hashes, root_hash
from yeoul.log import of_request
from yeoul.messages.outputs import TokenLogprobs
from yeoul.messages.requests import AddRequest
from yeoul.messages.steps import NewRequest
from yeoul.scheduler.stopping import StopRule
from yeoul.scheduler.tier_moves import Load

logger = logging.getLogger(__name__)


class RequestStatus(enum.Enum):
    """Where a request is: in the waiting queue, held back while others are tried, in the workers' batch, or gone."""

    WAITING = "waiting"
    HELD = "held"
    RUNNING = "running"
    FINISHED = "finished"


class Request:
    """One request from ``add`` to its last token. ``order`` sorts requests: the smallest runs first, is preempted last.
    With ``in_gaps`` it is only computed in steps that nobody else needs.

    ``token_ids`` is the prompt and then the output. ``num_computed_tokens`` counts what has been handed to the workers, the
    steps in flight included, and so may pass what is known here: the workers know sampled tokens before we do.
    ``num_charged_tokens`` is the most of these that FairShares has seen. ``num_own_blocks`` are those that were not known
    when it was admitted, ``num_named_blocks`` those that others may find, ``num_kept_blocks`` the last of
    its prompt that other engines find below. ``awaited_hash`` names the first block that was
    not known when the request was last to be admitted. ``num_told_tokens`` are those that all stages
    of a pipeline know. ``admitted_step`` is the step that (last) brought the request to the
    workers: answers of earlier steps are no longer its own. ``queue_seconds`` is None until the first admission;
    ``has_answered`` becomes True with the first output, ``has_progressed`` with the first since the workers (last) started;
    ``has_loaded`` is whether its prefix was loaded from below since it last began to wait, ``load_began`` when it
    first had to wait for that, ``last_load`` for what last, ``load_seconds`` how long before its first admission.
    """

    __slots__ = (
        "admitted_step",
        "arrival_seconds",
        "awaited_hash",
        "block_hashes",
        "block_ids",
        "can_be_named",
        "has_answered",
        "has_loaded",
        "has_progressed",
        "in_gaps",
        "last_load",
        "load_began",
        "load_seconds",
        "message",
        "num_cached_tokens",
        "num_charged_tokens",
        "num_computed_tokens",
        "num_kept_blocks",
        "num_named_blocks",
        "num_own_blocks",
        "num_prompt_tokens",
        "num_told_tokens",
        "order",
        "prompt_logprobs",
        "queue_seconds",
        "request_id",
        "root",
        "status",
        "stop_rule",
        "token_ids",
    )

    def __init__(self, message: AddRequest, order: tuple[int, int], arrival_seconds: float, max_num_tokens: int) -> None:
        self.message = message
        self.request_id = message.request_id
        self.order = order
        self.in_gaps = message.in_gaps
        self.root = root_hash((message.cache_salt,) if message.cache_salt else ())
        self.token_ids = message.prompt_token_ids + message.output_token_ids
        self.num_prompt_tokens = len(message.prompt_token_ids)
        self.stop_rule = StopRule(message, max_num_tokens)
        self.num_computed_tokens = 0
        self.num_charged_tokens = len(self.token_ids) if message.output_token_ids else 0
        self.block_ids: list[int] = []
        self.awaited_hash: bytes | None = None
        self.block_hashes: list[bytes] = []
        self.can_be_named = True
        self.num_named_blocks = self.num_kept_blocks = 0
        self.num_own_blocks = 0
        self.num_told_tokens = 0
        self.status = RequestStatus.WAITING
        self.admitted_step = -1
        self.has_answered = bool(message.output_token_ids)  # by an earlier engine
        self.has_progressed = False
        self.has_loaded = False
        self.last_load: Load | None = None
        self.load_began: float | None = None
        self.load_seconds = 0.0
        self.arrival_seconds = arrival_seconds
        self.queue_seconds: float | None = None
        self.num_cached_tokens = 0
        self.prompt_logprobs: list[TokenLogprobs | None] = []

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether prompt log probabilities are still to be delivered; an earlier engine delivered them with its output."""
        return self.message.sampling.prompt_logprobs is not None and not self.has_answered

    @property
    def may_use_known_prefix(self) -> bool:
        """False where each prompt token has to be computed for the answer's own sake."""
        return self.message.sampling.prompt_logprobs is None and self.message.pooling != "mean"

    @property
    def is_ending(self) -> bool:
        """Whether nothing is left to hand out: the last token that a limit allows, or the vector, is on its way."""
        return self.num_computed_tokens + 1 >= self.stop_rule.last_length

    def has_prompt_of(self, other: Request) -> bool:
        """Whether both begin with the same prompt, for the same tenant."""
        return self.root == other.root and self.message.prompt_token_ids == other.message.prompt_token_ids

    def hashes_of(self, num_blocks: int, block_size: int) -> list[bytes]:
        """The hashes of the first ``num_blocks`` blocks, all full; each is computed once in a request's life.

        There are fewer where a block cannot be named: the request shares none from there on, and the step goes on.
        """
        if len(self.block_hashes) < num_blocks and self.can_be_named:
            try:
                extend_hashes(self.block_hashes, self.root, self.token_ids, block_size, num_blocks)
            except Exception:
                self.can_be_named = False
                extra = of_request(self.request_id)
                logger.exception("the blocks of this request cannot be named, and are shared with nobody", extra=extra)
        return self.block_hashes if len(self.block_hashes) == num_blocks else self.block_hashes[:num_blocks]

    def leave_workers(self, status: RequestStatus) -> None:
        """Back to waiting, or gone: nothing is computed and no block is held; tokens, and what was sent, stay."""
        self.status = status
        self.block_ids = []
        self.num_computed_tokens = 0
        self.num_named_blocks = self.num_kept_blocks = 0
        self.has_loaded = False
        self.prompt_logprobs = []

    def as_message(self) -> AddRequest:
        """What another engine needs in order to go on from here."""
        output_token_ids = self.token_ids[self.num_prompt_tokens :]
        return msgspec.structs.replace(self.message, output_token_ids=output_token_ids)

    def for_workers(self) -> NewRequest:
        """All that a worker needs in order to go on from here."""
        message = self.message
        return NewRequest(
            request_id=self.request_id,
            prompt_token_ids=message.prompt_token_ids,
            output_token_ids=self.token_ids[self.num_prompt_tokens :],
            sampling=message.sampling,
            eos_token_ids=message.eos_token_ids,
            choice_index=message.choice_index,
            pooling=message.pooling,
        )
