"""request_trace(): one request's way through the processes, as a trace; made of a ``RequestRecord`` alone.

On the row "causes" every moment of the request has its cause, so that they add up to its time as those of its story do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from yeoul.web_process.live.requests.causes import CauseSpans
from yeoul.web_process.live.requests.request_record import RecordedStep, RequestRecord
from yeoul.web_process.live.traces.trace_events import Trace, TraceWriter

_WEB, _ENGINE_CORE, _WORKERS = 1, 2, 3
_REQUEST, _CAUSES = (_WEB, 11), (_WEB, 12)
_QUEUE, _STEPS = (_ENGINE_CORE, 21), (_WORKERS, 31)
_PARTS = ("to the workers", "compute", "sample", "back", "book")
_MAX_NUM_NAMES = 32


def request_trace(record: RequestRecord, *, names_others: bool = True) -> Trace:
    """The trace as of the record's summary. Unless it ``names_others`` their ids are left out."""
    summary = record.summary
    until = summary.arrived + summary.seconds
    writer = TraceWriter(summary.arrived)
    for place, (pid, name) in enumerate(((_WEB, "Web"), (_ENGINE_CORE, "EngineCore"), (_WORKERS, "Workers"))):
        writer.name_process(pid, name, place)
    rows = ((_REQUEST, "request"), (_CAUSES, "causes"), (_QUEUE, "queue"), (_STEPS, "steps"))
    for place, ((pid, tid), name) in enumerate(rows):
        writer.name_thread(pid, tid, name, place)
    _write_web(writer, record, until)
    _write_causes(writer, record, until)
    _write_queue(writer, record, until)
    _write_steps(writer, record, names_others=names_others)
    return writer.trace(
        request=summary.id,
        route=summary.route,
        model=summary.model,
        state=summary.state,
        arrived=summary.arrived,
        seconds=summary.seconds,
        num_prompt_tokens=summary.num_prompt_tokens,
        num_cached_tokens=summary.num_cached_tokens,
        num_output_tokens=summary.num_output_tokens,
        finish_reason=summary.finish_reason,
        error=record.error,
    )


def _write_web(writer: TraceWriter, record: RequestRecord, until: float) -> None:
    """The request, and in it what follows each other without a gap."""
    summary = record.summary
    writer.span(_REQUEST, summary.id, summary.arrived, until, "request", state=summary.state)
    parts = [
        ("read", record.read, {}),
        ("tokenize", record.tokenized, {"num_prompt_tokens": summary.num_prompt_tokens}),
        ("hand over", record.entered, {}),
        ("in the engine", record.ended, {"num_output_tokens": summary.num_output_tokens}),
        ("send the rest", record.closed, {}),
    ]
    at = summary.arrived
    for name, noted, args in parts:
        if noted is None and name in ("read", "tokenize"):  # not known of what was written down by an earlier version
            continue
        end = until if noted is None else max(at, min(noted, until))
        if end > at:
            writer.span(_REQUEST, name, at, end, "web", **args)
        at = end
    if summary.ttft_seconds is not None:
        writer.moment(_REQUEST, "first token", summary.arrived + summary.ttft_seconds)


def _write_causes(writer: TraceWriter, record: RequestRecord, until: float) -> None:
    walk = CauseSpans(record)
    walk.take(record.steps)
    walk.finish(until)
    at = record.summary.arrived
    for name, seconds in walk.spans:
        writer.span(_CAUSES, name, at, at + seconds, "cause")
        at += seconds


def _write_queue(writer: TraceWriter, record: RequestRecord, until: float) -> None:
    """When it waited for its turn, the first time and whenever it was put back, and when nobody was served."""
    first = record.first_step_at
    end = min(until if record.ended is None else record.ended, until)
    if first is None or first > record.entered:
        writer.span(_QUEUE, "waits", record.entered, max(record.entered, end if first is None else first), "queue")
    at = record.entered if first is None else first
    for step, last in zip(record.steps[1:], record.steps, strict=False):
        if step.serial in record.resumed and step.at > last.end >= at:
            writer.span(_QUEUE, "waits once more", last.end, step.at, "queue")
    for outage in record.outages:
        writer.moment(_QUEUE, outage.words, max(outage.since, record.entered))
        if outage.until is not None:
            writer.moment(_QUEUE, "others have taken over", max(outage.until, record.entered))


def _write_steps(writer: TraceWriter, record: RequestRecord, *, names_others: bool) -> None:
    if record.walked is not None and record.first_step_at is not None:
        num_steps = record.walked.num_steps
        writer.span(
            _STEPS, f"{num_steps} earlier steps", record.first_step_at, record.walked.cursor, "steps", num_steps=num_steps
        )
    at = record.walked.cursor if record.walked is not None else 0.0
    shown: list[tuple[RecordedStep, float, float]] = []
    for step, names in _with_company(record):
        of_prompt, of_answer = record.part_of(step)
        args: dict[str, Any] = {
            "step": step.number,
            "num_prompt_tokens": of_prompt,
            "num_answer_tokens": of_answer,
            "num_tokens_others": max(0, step.num_tokens - of_prompt - of_answer),
            "num_requests": step.num_requests,
        }
        if names is not None and names_others:
            args["shared_with"] = names
        begin, end = max(at, step.at), max(at, step.end)
        writer.span(_STEPS, "prefill" if of_prompt else "decode", begin, end, "step", **args)
        _write_split(writer, step, begin, end)
        shown.append((step, begin, end))
        at = end
    if shown and record.walked is None:
        writer.arrow("handed out", _QUEUE, record.entered, _STEPS, shown[0][1])
    if shown and record.ended is not None and record.ended >= shown[-1][1]:
        writer.arrow("came back", _STEPS, shown[-1][1], _REQUEST, record.ended)


def _write_split(writer: TraceWriter, step: RecordedStep, begin: float, end: float) -> None:
    """What the step's time went to, counted from its end; it may have waited behind the one before."""
    parts, until = [], end
    for name, microseconds in reversed(list(zip(_PARTS, step.split, strict=False))):
        since = max(begin, until - microseconds / 1e6)
        parts.append((name, since, until))
        until = since
    for name, since, until in reversed(parts):
        if until > since:
            writer.span(_STEPS, name, since, until, "part")


def _with_company(record: RequestRecord) -> Iterator[tuple[RecordedStep, list[str] | None]]:
    """Each step, and with whom it was shared, where those are others than in the step before."""
    companies = dict(record.companies)
    decodes: list[str] = []
    last: list[str] | None = None
    for step in record.steps:
        decodes = companies.get(step.serial, decodes)
        names = dict.fromkeys([*(name for name, _ in step.prompts), *decodes])
        names.pop(record.summary.id, None)
        shown = list(names)[:_MAX_NUM_NAMES]
        yield step, None if shown == last else shown
        last = shown
