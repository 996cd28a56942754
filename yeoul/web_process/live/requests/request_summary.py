"""RequestSummary: what a line of the list of requests says; knows no route and no engine."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from yeoul.messages.outputs import FinishReason
from yeoul.web_process.http.openapi import Count, says

State = Literal["waiting", "running", "finished", "aborted", "failed"]
Order = Literal["newest", "slowest"]
SecondsOf = Annotated[float, Meta(ge=0)]


class RequestSummary(msgspec.Struct, kw_only=True):
    """A request as the list shows it."""

    id: Annotated[str, says("Of the request: its X-Request-Id, and what makes it unique behind a `~`.")]
    route: Annotated[str, says("The path by which it came.")]
    model: Annotated[str, says("The name under which it asked for the model.")]
    tenant: Annotated[str, says("Whose it is, where the server has several API keys: an opaque name of the key.")]
    state: Annotated[State, says("What has become of it.")]
    arrived: Annotated[float, says("When it came, in Unix time.")]
    place: Annotated[int | None, says("Its place among those that wait, from 1; null where it does not.")] = None
    expected_wait_seconds: Annotated[
        SecondsOf | None, says("Until it gets something, by how fast others did of late; null where nothing is known.")
    ] = None
    why_it_waits: Annotated[str | None, says("Why it waits, in words; null where it does not.")] = None
    num_prompt_tokens: Annotated[Count, says("Tokens of its prompts.")]
    num_cached_tokens: Annotated[Count, says("How many of them were in the prefix cache.")]
    num_output_tokens: Annotated[Count, says("Tokens that were made for it so far.")]
    ttft_seconds: Annotated[SecondsOf | None, says("From its arrival to its first token.")]
    seconds: Annotated[SecondsOf, says("From its arrival until its answer was read, or until now.")]
    finish_reason: Annotated[FinishReason | None, says("Why its last choice ended; null while there are others.")]
    engine: Annotated[
        str | msgspec.UnsetType, says("The engines that have it, or that had its last step; only where there are several.")
    ] = msgspec.UNSET


class RequestList(msgspec.Struct, kw_only=True):
    """A page of requests."""

    data: Annotated[list[RequestSummary], says("The requests, those that came last first.")]
    has_more: Annotated[bool, says("Whether there are others behind them.")]


class AbortAnswer(msgspec.Struct, kw_only=True):
    """That a request was ended."""

    id: Annotated[str, says("Of the request.")]
    aborted: Annotated[bool, says("Whether it was unfinished until now.")]


class Sight(NamedTuple):
    """Whose requests somebody may see: the owner's; None: everybody's."""

    owner: str | None

    def sees(self, tenant: str) -> bool:
        """Whether a request of this tenant is among them."""
        return self.owner is None or self.owner == tenant
