"""AnswerReader: turns a step's answer into what each request gained; knows nothing of queues or budgets.

Called by Scheduler.update. An answer that makes no sense fails its own request and no other.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import msgspec

from yeoul.kv_cache.block_hash import MAX_TOKEN_ID
from yeoul.log import of_request
from yeoul.messages.outputs import RequestFault, RequestOutput
from yeoul.messages.steps import RequestResult, StepResult
from yeoul.scheduler.plan import StepPlan
from yeoul.scheduler.prefixes import Prefixes
from yeoul.scheduler.request import Request, RequestStatus

logger = logging.getLogger(__name__)

_NO_ANSWER = RequestResult("")


class _UnfitError(Exception):
    """An answer that makes no sense here."""


@dataclass
class Gains:
    """What a step brought: outputs and their requests, those that ended, and which of those have their whole answer."""

    outputs: list[RequestOutput]
    requests: list[Request]
    finished: list[Request]
    complete: list[Request]


class AnswerReader:
    """Applies tokens to requests, names the blocks that are filled, ends requests, and counts."""

    def __init__(self, prefixes: Prefixes) -> None:
        self._prefixes = prefixes
        self._block_size = prefixes.block_size
        self.total_prompt_tokens = 0
        self.total_output_tokens = 0

    def read(self, plan: StepPlan, result: StepResult) -> Gains:
        """Applies ``result`` to those requests of ``plan`` that still take part in it; who ends gets the status FINISHED."""
        gains = Gains([], [], [], [])
        answers = {answer.request_id: answer for answer in result.results}
        for request, end in zip(plan.requests, plan.ends, strict=True):
            answer = answers.get(request.request_id, _NO_ANSWER)
            if plan.owns(request):
                output = self._try_to_apply(request, end, answer)
                if output is not None:
                    gains.outputs.append(output)
                    gains.requests.append(request)
                    if output.finish_reason is not None:
                        gains.finished.append(request)
                        if output.fault is None:
                            gains.complete.append(request)
            elif answer.fault is not None:
                self._prefixes.forget(request)
        return gains

    def _try_to_apply(self, request: Request, end: int, answer: RequestResult) -> RequestOutput | None:
        """Whatever goes wrong with one answer fails its request, never the step."""
        try:
            if answer.fault is None:
                return self._apply(request, end, answer)
            fault = answer.fault
        except _UnfitError as error:
            fault = RequestFault(str(error))
        except Exception as error:
            logger.exception("the answer to this request cannot be applied", extra=of_request(request.request_id))
            fault = RequestFault(f"the workers' answer cannot be used: {error}")
        self._prefixes.forget(request)
        return fail(request, fault)

    def _apply(self, request: Request, end: int, answer: RequestResult) -> RequestOutput | None:
        """The output that this answer makes; None if it brings nothing to the client yet.

        ``end`` tokens of the request's context are computed now. If more are known, the step was not to sample.
        """
        if end // self._block_size > request.num_named_blocks:
            self._prefixes.name_full_blocks(request, end)
        if answer.prompt_logprobs and request.wants_prompt_logprobs:
            request.prompt_logprobs += answer.prompt_logprobs
        if end < len(request.token_ids):
            if answer.token_ids or answer.embedding is not None:
                raise _UnfitError("a worker sampled before it had computed the whole request")
            return None
        if answer.token_ids:
            output = self._apply_tokens(request, answer)
        elif answer.embedding is not None:
            request.status = RequestStatus.FINISHED
            output = RequestOutput(
                request_id=request.request_id,
                finish_reason="stop",
                embedding=answer.embedding,
                turn=request.message.turn,
            )
        else:
            raise _UnfitError("the workers computed the request and gave no answer for it")
        request.has_progressed = True
        if not request.has_answered:
            output = self._complete_first(request, output)
        if request.message.hands_over and output.finish_reason is None and self._prefixes.is_kept(request):
            output = msgspec.structs.replace(output, is_kept=True)
        return output

    def _apply_tokens(self, request: Request, answer: RequestResult) -> RequestOutput:
        """Appends the tokens of ``answer`` up to the one that ends the request, if one does."""
        known, new_token_ids = request.token_ids, answer.token_ids
        for num_used, token_id in enumerate(new_token_ids, 1):
            if not 0 <= token_id <= MAX_TOKEN_ID:
                raise _UnfitError(f"a worker sampled {token_id}, which is no token")
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
                    turn=request.message.turn,
                )
        self.total_output_tokens += len(new_token_ids)
        return RequestOutput(
            request_id=request.request_id,
            new_token_ids=new_token_ids,
            new_logprobs=answer.logprobs,
            turn=request.message.turn,
        )

    def _complete_first(self, request: Request, output: RequestOutput) -> RequestOutput:
        """The first output with what comes with it alone: prompt log probabilities, what is cached, seconds in the queue."""
        request.has_answered = True
        self.total_prompt_tokens += request.num_prompt_tokens
        prompt_logprobs, request.prompt_logprobs = request.prompt_logprobs, []
        return msgspec.structs.replace(
            output,
            prompt_logprobs=prompt_logprobs,
            num_cached_tokens=request.num_cached_tokens,
            num_leased_tokens=self._prefixes.num_leased_tokens(request),
            queue_seconds=request.queue_seconds,
            load_seconds=request.load_seconds,
        )


def fail(request: Request, fault: RequestFault) -> RequestOutput:
    """Ends a request by an error; the output that tells it."""
    request.status = RequestStatus.FINISHED
    return RequestOutput(request_id=request.request_id, finish_reason="error", fault=fault, turn=request.message.turn)
