"""StepPlan: one step while it is put together, and what is remembered of it until it comes back. Called by Scheduler."""

from __future__ import annotations

from yeoul.messages.steps import NewRequest, ScheduledRequest, StepInput
from yeoul.scheduler.request import Request, RequestStatus
from yeoul.scheduler.tier_moves import TierMoves

_RUNNING = RequestStatus.RUNNING


class StepPlan:
    """``budget`` is how many more tokens the step may compute, ``limit_seconds`` how long it may take (see StepBudget).

    ``num_tokens`` are computed, and read ``num_keys`` keys at most; ``num_decodes`` are the requests that were taken first.
    ``requests`` are those whose parts ``scheduled`` has, and ``ends`` how many tokens of each are computed once the step is
    back. ``in_gaps``: the step is for requests that fill gaps, since there are no others.
    ``coming`` are the hashes of prompts' blocks that it fills. ``sampled`` is what stages of a pipeline are told.
    """

    __slots__ = (
        "budget",
        "coming",
        "ends",
        "has_preempted",
        "in_gaps",
        "limit_seconds",
        "new_requests",
        "num_decodes",
        "num_keys",
        "num_tokens",
        "requests",
        "sampled",
        "scheduled",
        "step_number",
    )

    def __init__(self, step_number: int, budget: int) -> None:
        self.step_number = step_number
        self.budget = budget
        self.limit_seconds: float | None = None
        self.has_preempted = False
        self.in_gaps = False
        self.num_tokens = 0
        self.num_decodes = 0
        self.num_keys = 0
        self.scheduled: list[ScheduledRequest] = []
        self.new_requests: list[NewRequest] = []
        self.requests: list[Request] = []
        self.ends: list[int] = []
        self.coming: set[bytes] = set()
        self.sampled: dict[str, list[int]] = {}

    def take(self, request: Request, num_new_tokens: int, new_block_ids: list[int]) -> None:
        """The step computes the next ``num_new_tokens`` tokens of ``request``."""
        start = request.num_computed_tokens
        self.scheduled.append(ScheduledRequest(request.request_id, start, num_new_tokens, new_block_ids))
        self.budget -= num_new_tokens
        self.num_tokens += num_new_tokens
        request.num_computed_tokens = end = start + num_new_tokens
        self.num_keys += num_new_tokens * end
        self.requests.append(request)
        self.ends.append(end)

    def tell(self, request: Request) -> None:
        """The stages that do not sample hear of the tokens that they do not know."""
        if request.num_told_tokens < len(request.token_ids):
            self.sampled[request.request_id] = request.token_ids[request.num_told_tokens :]
            request.num_told_tokens = len(request.token_ids)

    def owns(self, request: Request) -> bool:
        """Whether this step's answer is for ``request``: not if it came, or left and came back, after this step."""
        return request.status is _RUNNING and request.admitted_step <= self.step_number

    def as_message(self, finished_request_ids: list[str], moves: TierMoves | None) -> StepInput:
        """The step as the workers get it, with what is to be moved between the cache and the tier below it."""
        stores, loads, emptied_slots = moves.take() if moves is not None else ([], [], [])
        return StepInput(
            step_number=self.step_number,
            new_requests=self.new_requests,
            scheduled=self.scheduled,
            finished_request_ids=finished_request_ids,
            stores=stores,
            loads=loads,
            emptied_slots=emptied_slots,
            neighbours=moves.neighbours_of(loads) if moves is not None else [],
            sampled=self.sampled,
        )
