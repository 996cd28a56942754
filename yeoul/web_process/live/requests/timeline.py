"""timeline_of(): what happened to a request, process by process, as moments in their order; called by RequestStory."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import msgspec
from msgspec import Meta

from yeoul.web_process.http.openapi import says
from yeoul.web_process.live.requests.cause_words import counted
from yeoul.web_process.live.requests.request_record import RecordedStep, RequestRecord


class Moment(msgspec.Struct, kw_only=True):
    """Something that happened."""

    at: Annotated[float, says("When it began, in Unix time.")]
    process: Annotated[str, says("Where: `Web`, `EngineCore` or `Worker_0`.")]
    what: Annotated[str, says("What it was.")]
    seconds: Annotated[float, Meta(ge=0, description="How long it took; 0 for what takes no time.")] = 0.0


def timeline_of(record: RequestRecord, until: float) -> list[Moment]:
    """The moments up to ``until``."""
    summary = record.summary
    first = record.first_step_at
    num_tokens = counted(summary.num_prompt_tokens, "token")
    what = f"came by {summary.route or 'the library'}, was read and made into {num_tokens}"
    moments = [
        _moment(summary.arrived, "Web", what, record.entered),
        _moment(record.entered, "EngineCore", "waited in the queue", first if first is not None else until),
        *_of_steps(record),
    ]
    for one in record.outages:
        end = until if one.until is None else one.until
        moments.append(_moment(max(one.since, record.entered), "EngineCore", f"recovery: {one.words}", end))
    if summary.ttft_seconds is not None:
        at = summary.arrived + summary.ttft_seconds
        moments.append(_moment(at, "Web", "the first token came", at))
    if record.ended is not None:
        how = "failed" if record.error else f"ended ({summary.finish_reason})"
        moments.append(
            _moment(record.ended, "Web", f"{how} after {counted(summary.num_output_tokens, 'token')}", record.ended)
        )
        if record.closed is not None and record.closed > record.ended:
            moments.append(_moment(record.ended, "Web", "the client took the rest of the answer", record.closed))
    return sorted(moments, key=lambda moment: moment.at)


def _of_steps(record: RequestRecord) -> list[Moment]:
    """Runs of steps that did the same, and the pauses between them."""
    moments: list[Moment] = []
    if record.walked is not None:
        what = f"{counted(record.walked.num_steps, 'earlier step')}, of which only the sums are kept"
        moments.append(_moment(record.first_step_at or record.entered, "Worker_0", what, record.walked.cursor))
    part = 0
    last: RecordedStep | None = None
    keyed: list[tuple[tuple[int, bool], RecordedStep]] = []
    for step in record.steps:
        if step.serial in record.resumed:
            part += 1
            if last is not None and not any(last.end < one.since < step.at for one in record.outages):
                moments.append(
                    _moment(last.end, "EngineCore", "put back into the queue, until there was room again", step.at)
                )
        keyed.append(((part, record.part_of(step)[0] > 0), step))
        last = step
    for (_, is_prompt), group in groupby(keyed, key=lambda entry: entry[0]):
        run = [step for _, step in group]
        num_of_prompt, num_of_answer = (sum(tokens) for tokens in zip(*map(record.part_of, run), strict=True))
        num_steps = counted(len(run), "step")
        numbers = f"step {run[0].number}" if len(run) == 1 else f"steps {run[0].number} to {run[-1].number}"
        if is_prompt:
            what = f"computed {counted(num_of_prompt, 'token')} of its context in {num_steps} ({numbers})"
        else:
            what = f"made {counted(num_of_answer, 'token')} in {num_steps} ({numbers})"
        moments.append(_moment(run[0].at, "Worker_0", what, run[-1].end))
    return moments


def _moment(at: float, process: str, what: str, end: float) -> Moment:
    return Moment(at=round(at, 6), process=process, what=what, seconds=round(max(0.0, end - at), 6))
