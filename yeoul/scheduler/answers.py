"""AnswerReader: turns a step's answer into what each request gained; knows nothing of blocks, queues or budgets.

Called by Scheduler.update. An answer that makes no sense fails its own request and no other.
"""

from __future__ import annotations

from dataclasses import dataclass

from yeoul.messages.outputs import RequestFault, RequestOutput, TokenLogprobs
from yeoul.messages.steps import RequestResult, StepResult
from yeoul.scheduler.plan import StepPlan
from yeoul.scheduler.request import Request, RequestStatus
from yeoul.scheduler.stopping import find_ending


@dataclass
class Gains:
    """What a step brought: an output a request, the requests that ended, and whether any computation of it failed."""

    outputs: list[RequestOutput]
    finished: list[Request]
    has_failed: bool

    def add(self, request: Request, output: RequestOutput) -> None:
        """Notes what ``request`` gained."""
        self.outputs.append(output)
        if output.finish_reason is not None:
            self.finished.append(request)
            self.has_failed |= output.fault is not None


class AnswerReader:
    """Applies tokens to requests, ends them, and counts. ``max_num_tokens`` bounds prompt and output of one request."""

    def __init__(self, max_num_tokens: int) -> None:
        self._max_num_tokens = max_num_tokens
        self.total_prompt_tokens = 0
        self.total_output_tokens = 0

    def read(self, plan: StepPlan, result: StepResult) -> Gains:
        """Applies ``result`` to the requests that still take part in ``plan``; those that end get the status FINISHED."""
        gains = Gains([], [], False)
        num_answered = 0
        for answer in result.results:
            if answer.token_ids or answer.fault is not None or answer.embedding is not None:
                num_answered += 1
            gains.has_failed |= answer.fault is not None
            request = plan.requests.get(answer.request_id)
            if request is not None and plan.owns(request):
                output = self._apply(request, answer)
                if output is not None:
                    gains.add(request, output)
        if num_answered < len(plan.sampling):
            self._fail_unanswered(plan, result, gains)
        return gains

    def _apply(self, request: Request, answer: RequestResult) -> RequestOutput | None:
        """The output that this answer makes; None if it brings nothing to the client yet."""
        if answer.fault is not None:
            return _fail(request, answer.fault)
        if answer.prompt_logprobs and request.wants_prompt_logprobs:
            request.prompt_logprobs += answer.prompt_logprobs
        if request.message.pooling is not None:
            return self._apply_embedding(request, answer)
        if not answer.token_ids:
            return None
        if request.num_computed_tokens != len(request.token_ids):
            return _fail(request, "a worker sampled before it had computed the whole request")
        return self._apply_tokens(request, answer)

    def _apply_tokens(self, request: Request, answer: RequestResult) -> RequestOutput:
        ending = None
        num_used = 0
        for token_id in answer.token_ids:
            request.token_ids.append(token_id)
            num_used += 1
            ending = find_ending(request, self._max_num_tokens)
            if ending is not None:
                request.status = RequestStatus.FINISHED
                break
        self.total_output_tokens += num_used
        prompt_logprobs, num_cached_tokens, queue_seconds = self._first_output_fields(request)
        return RequestOutput(
            request_id=request.request_id,
            new_token_ids=answer.token_ids[:num_used],
            new_logprobs=answer.logprobs[:num_used],
            prompt_logprobs=prompt_logprobs,
            finish_reason=None if ending is None else ending.reason,
            stop_reason=None if ending is None else ending.stop_token_id,
            num_cached_tokens=num_cached_tokens,
            queue_seconds=queue_seconds,
        )

    def _apply_embedding(self, request: Request, answer: RequestResult) -> RequestOutput | None:
        if answer.embedding is None:
            return None
        request.status = RequestStatus.FINISHED
        _, num_cached_tokens, queue_seconds = self._first_output_fields(request)
        return RequestOutput(
            request_id=request.request_id,
            finish_reason="stop",
            num_cached_tokens=num_cached_tokens,
            queue_seconds=queue_seconds,
            embedding=answer.embedding,
        )

    def _first_output_fields(self, request: Request) -> tuple[list[TokenLogprobs | None], int, float | None]:
        """What comes with the first output alone: prompt log probabilities, cached tokens, seconds in the queue."""
        if request.has_answered:
            return [], 0, None
        request.has_answered = True
        self.total_prompt_tokens += request.num_prompt_tokens
        prompt_logprobs, request.prompt_logprobs = request.prompt_logprobs, []
        return prompt_logprobs, request.num_cached_tokens, request.queue_seconds

    def _fail_unanswered(self, plan: StepPlan, result: StepResult, gains: Gains) -> None:
        """Ends the requests for which an answer was due and none came; they would wait for ever."""
        answered = {answer.request_id for answer in result.results if answer.token_ids or answer.embedding is not None}
        gains.has_failed = True
        for request in plan.sampling:
            if request.request_id not in answered and plan.owns(request):
                gains.add(request, _fail(request, "the workers computed the request and gave no answer for it"))


def _fail(request: Request, message: str) -> RequestOutput:
    request.status = RequestStatus.FINISHED
    return RequestOutput(request_id=request.request_id, finish_reason="error", fault=RequestFault(message=message))
