"""summarize(): what a list says of a request, of what was put down of it; called by RequestLog and Recorder."""

from __future__ import annotations

import msgspec

from yeoul.messages.outputs import FinishReason
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.live.requests.logged_request import LoggedRequest
from yeoul.web_process.live.requests.request_summary import RequestSummary, State

_STATES: dict[FinishReason, State] = {"stop": "finished", "length": "finished", "abort": "aborted", "error": "failed"}


def summarize(llm: AsyncLLM, request: LoggedRequest, state: State, until: float) -> RequestSummary:
    """A request that does not wait, as of ``until``."""
    stream, terms = request.stream, request.terms
    first = request.first_token_at
    return RequestSummary(
        id=request.id,
        route=terms.route,
        model=terms.model,
        tenant=terms.tenant,
        state=state,
        arrived=request.arrival,
        num_prompt_tokens=stream.num_prompt_tokens,
        num_cached_tokens=request.num_cached_tokens,
        num_output_tokens=request.num_output_tokens,
        ttft_seconds=None if first is None else round(max(0.0, first - request.arrival), 6),
        seconds=round(max(0.0, until - request.arrival), 6),
        finish_reason=stream.finish_reason if stream.ended_at is not None else None,
        engine=_engine_of(llm, request),
    )


def _engine_of(llm: AsyncLLM, request: LoggedRequest) -> str | msgspec.UnsetType:
    if len(llm.engines.slots) < 2:
        return msgspec.UNSET
    names = [slot.name for slot in llm.engines.of_requests(request.stream.engine_request_ids)]
    if not names and request.steps:
        names = [llm.engines.slots[request.steps[-1].engine].name]
    return ", ".join(names)


def state_of_ended(request: LoggedRequest) -> State:
    """What has become of one that has ended; one that was closed without an end was given up."""
    return _STATES[request.stream.finish_reason or "abort"]
