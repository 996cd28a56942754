"""The story of one request: what happened in which process, which steps it was in and with whom, and what its time went to.

Made of a ``RequestRecord`` alone; knows no engine and no route.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from yeoul.web_process.http.openapi import Count, says
from yeoul.web_process.live.requests.cause_words import words_of
from yeoul.web_process.live.requests.causes import Cause, CauseWalk
from yeoul.web_process.live.requests.request_record import CauseSeconds, RecordedStep, RequestRecord
from yeoul.web_process.live.requests.request_summary import RequestSummary
from yeoul.web_process.live.requests.send_again import curl_of, python_of
from yeoul.web_process.live.requests.timeline import Moment, timeline_of

_MAX_NUM_BECAUSE = 16
_MAX_NUM_NAMES = 32

Seconds = Annotated[float, Meta(ge=0)]


class StoryStep(msgspec.Struct, kw_only=True):
    """A step that computed something of the request."""

    number: Annotated[Count, says("As the engine counts.")]
    at: Annotated[float, says("When it was handed to the workers, in Unix time.")]
    seconds: Annotated[Seconds, says("Until its answer was back.")]
    num_tokens_own: Annotated[Count, says("Tokens that it computed of this request.")]
    num_tokens_others: Annotated[Count, says("Tokens that it computed of others.")]
    num_requests: Annotated[Count, says("Choices that it computed something of, this request's included.")]
    shared_with: Annotated[list[str], says("The ids of the other requests in it, 32 at most.")]


class StoryCause(msgspec.Struct, kw_only=True):
    """What a part of the time went to."""

    cause: Annotated[Cause, says("Its name.")]
    seconds: Annotated[Seconds, says("How much of the request's time it took.")]
    words: Annotated[str, says("The same in words.")]
    because: Annotated[list[str], says("The ids of the requests that had to do with it, those with most of it first.")]


class RequestStory(RequestSummary, kw_only=True):
    """A request and everything that happened to it."""

    error: Annotated[str | None, says("Why it failed; null where it did not.")]
    timeline: Annotated[list[Moment], says("What happened, in its order.")]
    num_steps: Annotated[Count, says("Steps that computed something of it; `steps` has the last ones.")]
    steps: Annotated[list[StoryStep], says("Its last steps, the oldest first.")]
    causes: Annotated[list[StoryCause], says("What its time went to; together they are its `seconds`.")]
    left_out: Annotated[list[str], says("Fields with texts that `curl` and `python` are without; the prompt has its place.")]
    curl: Annotated[str, says("A line for a shell that sends it again.")]
    python: Annotated[str, says("The same in Python, with OpenAI's client where it came by that API.")]


def tell(record: RequestRecord, base_url: str, *, needs_key: bool = False, names_others: bool = True) -> RequestStory:
    """The story as of the record's summary; the request is sent again to ``base_url``.

    Unless it ``names_others`` their ids are left out: they may be somebody else's.
    """
    until = record.summary.arrived + record.summary.seconds
    walk = CauseWalk(record)
    walk.take(record.steps)
    causes = walk.finish(until)
    num_named, num_blamed = (_MAX_NUM_NAMES, _MAX_NUM_BECAUSE) if names_others else (0, 0)
    fields = {name: getattr(record.summary, name) for name in RequestSummary.__struct_fields__}
    return RequestStory(
        **fields,
        error=record.error,
        timeline=timeline_of(record, until),
        num_steps=walk.walked.num_steps,
        steps=list(_shown(record, num_named)),
        causes=[_cause(name, cause, record, num_blamed) for name, cause in _largest_first(causes)],
        left_out=record.left_out,
        curl=curl_of(record.summary.route, record.body, base_url, needs_key=needs_key),
        python=python_of(record.summary.route, record.body, base_url, needs_key=needs_key),
    )


def _largest_first(causes: dict[str, CauseSeconds]) -> list[tuple[str, CauseSeconds]]:
    return sorted(causes.items(), key=lambda entry: -entry[1].seconds)


def _cause(name: str, cause: CauseSeconds, record: RequestRecord, num_blamed: int) -> StoryCause:
    because = sorted(cause.others, key=lambda other: -cause.others[other])[:num_blamed]
    return StoryCause(
        cause=name,  # type: ignore[arg-type]
        seconds=round(max(0.0, cause.seconds), 6),
        words=words_of(name, cause, record),
        because=because,
    )


def _shown(record: RequestRecord, num_named: int) -> Iterator[StoryStep]:
    companies = iter([*record.companies, (math.inf, [])])
    decodes: list[str] = []
    since, coming = next(companies)
    for step in record.steps:
        while step.serial >= since:
            decodes = coming
            since, coming = next(companies)
        yield _step(record, step, decodes, num_named)


def _step(record: RequestRecord, step: RecordedStep, decodes: list[str], num_named: int) -> StoryStep:
    own = sum(record.part_of(step))
    others = dict.fromkeys([*(name for name, _ in step.prompts), *decodes])
    others.pop(record.summary.id, None)
    return StoryStep(
        number=step.number,
        at=round(step.at, 6),
        seconds=round(step.seconds, 6),
        num_tokens_own=own,
        num_tokens_others=max(0, step.num_tokens - own),
        num_requests=step.num_requests,
        shared_with=list(others)[:num_named],
    )
