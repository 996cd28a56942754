"""AnswerReader: turns a step's answer into what each request gained; knows nothing of blocks, queues or budgets.

Called by Scheduler.update. An answer that makes no sense fails its own request and no other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from yeoul.kv_cache.block_hash import MAX_TOKEN_ID
from yeoul.messages.outputs import RequestFault, RequestOutput
from yeoul.messages.steps import RequestResult, StepResult
from yeoul.scheduler.plan import StepPlan
from yeoul.scheduler.request import Request, RequestStatus

logger = logging.getLogger(__name__)


@dataclass
class Gains:
    """What a step brought: outputs and their requests, those that ended, which of those have their whole answer, and whether
    any computation of it failed."""

    outputs: list[RequestOutput]
    requests: list[Request]
    finished: list[Request]
    complete: list[Request]
    has_failed: bool

    def add(self, request: Request, output: RequestOutput) -> None:
        """Notes what ``request`` gained."""
        self.outputs.append(output)
        self.requests.append(request)
        if output.finish_reason is not None:
            self.finished.append(request)
            if output.fault is None:
                self.complete.append(request)
            else:
                self.has_failed = True


class AnswerReader:
    """Applies tokens to requests, ends them, and counts."""

    def __init__(self) -> None:
        self.total_prompt_tokens = 0
        self.total_output_tokens = 0

    def read(self, plan: StepPlan, result: StepResult, requests: Mapping[str, Request]) -> Gains:
        """Applies ``result`` to those of ``requests`` that still take part in ``plan``; who ends gets the status FINISHED."""
        gains = Gains([], [], [], [], False)
        num_answered = 0
        for answer in result.results:
            if answer.token_ids or answer.fault is not None or answer.embedding is not None:
                num_answered += 1
            if answer.fault is not None:
                gains.has_failed = True
            request = requests.get(answer.request_id)
            if request is not None and plan.owns(request):
                output = self._try_to_apply(request, answer)
                if output is not None:
                    gains.add(request, output)
        if num_answered < plan.num_sampling:
            self._fail_unanswered(plan, requests, gains)
        return gains

    def _try_to_apply(self, request: Request, answer: RequestResult) -> RequestOutput | None:
        """Whatever goes wrong with one answer fails its request, never the step."""
        try:
            return self._apply(request, answer)
        except Exception as error:
            logger.exception("the answer to request %s cannot be applied", request.request_id)
            return fail(request, f"the workers' answer cannot be used: {error}")

    def _apply(self, request: Request, answer: RequestResult) -> RequestOutput | None:
        """The output that this answer makes; None if it brings nothing to the client yet."""
        if answer.fault is not None:
            return fail(request, answer.fault)
        if answer.prompt_logprobs and request.wants_prompt_logprobs:
            request.prompt_logprobs += answer.prompt_logprobs
        if answer.token_ids:
            output = self._apply_tokens(request, answer)
        elif answer.embedding is not None:
            request.status = RequestStatus.FINISHED
            output = RequestOutput(request_id=request.request_id, finish_reason="stop", embedding=answer.embedding)
        else:
            return None
        request.has_progressed = True
        return output if request.has_answered else self._complete_first(request, output)

    def _apply_tokens(self, request: Request, answer: RequestResult) -> RequestOutput:
        """Appends the tokens of ``answer`` up to the one that ends the request, if one does."""
        known, new_token_ids = request.token_ids, answer.token_ids
        if request.num_pending_tokens == 0:
            return fail(request, "a worker sampled before it had computed the whole request")
        request.num_pending_tokens -= 1
        if request.num_pending_tokens and len(new_token_ids) > 1:
            return fail(request, "a worker sampled several tokens where a step in flight follows the first one")
        for num_used, token_id in enumerate(new_token_ids, 1):
            if not 0 <= token_id <= MAX_TOKEN_ID:
                return fail(request, f"a worker sampled {token_id}, which is no token")
            known.append(token_id)
            ending = request.stop_rule.find_ending(token_id, len(known))
            if ending is not None:
                request.status = RequestStatus.FINISHED
                self.total_output_tokens += num_used
                return RequestOutput(
                    request_id=request.request_id,
                    new_token_ids=new_token_ids[:num_used],
                    new_logprobs=answer.logprobs[:num_used],
                    finish_reason=ending.reason,
                    stop_reason=ending.stop_token_id,
                )
        self.total_output_tokens += len(new_token_ids)
        return RequestOutput(request_id=request.request_id, new_token_ids=new_token_ids, new_logprobs=answer.logprobs)

    def _complete_first(self, request: Request, output: RequestOutput) -> RequestOutput:
        """The first output with what comes with it alone: prompt log probabilities, cached tokens, seconds in the queue."""
        request.has_answered = True
        self.total_prompt_tokens += request.num_prompt_tokens
        prompt_logprobs, request.prompt_logprobs = request.prompt_logprobs, []
        return msgspec.structs.replace(
            output,
            prompt_logprobs=prompt_logprobs,
            num_cached_tokens=request.num_cached_tokens,
            queue_seconds=request.queue_seconds,
        )

    def _fail_unanswered(self, plan: StepPlan, requests: Mapping[str, Request], gains: Gains) -> None:
        """Ends the requests for which an answer was due and none came; they would wait for ever."""
        gains.has_failed = True
        for entry in plan.scheduled:
            request = requests.get(entry.request_id)
            if request is not None and plan.owns(request):
                is_unanswered = entry.num_computed_tokens + entry.num_new_tokens == len(request.token_ids)
                if is_unanswered:
                    gains.add(request, fail(request, "the workers computed the request and gave no answer for it"))


def fail(request: Request, message: str) -> RequestOutput:
    """Ends a request by an error; the output that tells it."""
    request.status = RequestStatus.FINISHED
    return RequestOutput(request_id=request.request_id, finish_reason="error", fault=RequestFault(message=message))
