"""Sums up a load: throughput, distributions of times, and both over the load's course; knows nothing of HTTP and terminals.

Called by ``commands``; ``report_views`` and ``plot`` show what it makes.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from yeoul.cli.benchmark.distribution import Distribution, distribution
from yeoul.cli.benchmark.machine import Machine
from yeoul.cli.benchmark.plan import LoadPlan, RequestTimes

_NUM_INTERVALS = 60


class RequestSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One request; seconds, ``sent_seconds`` from the load's start, the others from its sending."""

    number: int
    client: int
    planned_seconds: float | None
    sent_seconds: float
    first_token_seconds: float | None
    total_seconds: float
    prompt_tokens: int
    output_tokens: int
    error: str | None


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """The load over time, in equal intervals. An answer that was not streamed counts as if its tokens had come evenly.

    ``requests_in_flight`` is the most at a time within each.
    """

    interval_seconds: float
    output_tokens_per_second: list[float]
    requests_in_flight: list[int]


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a load has shown. Times are of the requests that went well, in milliseconds; None where there are none.

    ``inter_token`` is the time a token took after the one before it. Where one read brought several tokens, the time since
    the read before is shared among them, so that none counts as having taken no time; ``between_arrivals`` is that time
    unshared, the pause that a user sees. ``time_per_output_token`` is a request's time after its first token by its
    further tokens. ``send_delay`` is how much later than due a request of an open load was sent.
    """

    started_at: str
    yeoul_version: str
    settings: LoadPlan
    server: str | None
    client_machine: Machine
    num_completed: int
    num_failed: int
    first_error: str | None
    errors: dict[str, int]
    duration_seconds: float
    total_prompt_tokens: int
    total_output_tokens: int
    requests_per_second: float
    output_tokens_per_second: float
    total_tokens_per_second: float
    most_in_flight: int
    output_tokens_per_event: float | None
    shared_arrival_share: float | None
    client_busy_shares: list[float]
    time_to_first_token: Distribution | None
    inter_token: Distribution | None
    between_arrivals: Distribution | None
    time_per_output_token: Distribution | None
    request_duration: Distribution | None
    send_delay: Distribution | None
    course: Course
    requests: list[RequestSummary]


def sum_up(
    plan: LoadPlan,
    results: Sequence[RequestTimes],
    duration_seconds: float,
    *,
    busy_shares: Sequence[float],
    machine: Machine,
    server: str | None,
    started_at: str,
    version: str,
) -> LoadReport:
    """The report on a load of which each request is in ``results``, one at least."""
    good = [times for times in results if times.error is None]
    errors = [times.error for times in results if times.error is not None]
    prompt_tokens = sum(times.prompt_tokens for times in good)
    output_tokens = sum(times.output_tokens for times in good)
    num_events = sum(sum(times.arrival_events) for times in good)
    num_shared = sum(events for times in good for events in times.arrival_events if events > 1)
    changes = _changes_in_flight(results)
    return LoadReport(
        started_at=started_at,
        yeoul_version=version,
        settings=msgspec.structs.replace(plan, api_key=None),
        server=server,
        client_machine=machine,
        num_completed=len(good),
        num_failed=len(errors),
        first_error=errors[0] if errors else None,
        errors=dict(Counter(errors).most_common()),
        duration_seconds=round(duration_seconds, 4),
        total_prompt_tokens=prompt_tokens,
        total_output_tokens=output_tokens,
        requests_per_second=round(len(good) / duration_seconds, 4),
        output_tokens_per_second=round(output_tokens / duration_seconds, 3),
        total_tokens_per_second=round((prompt_tokens + output_tokens) / duration_seconds, 3),
        most_in_flight=max((num for _, num in changes), default=0),
        output_tokens_per_event=round(output_tokens / num_events, 4) if num_events else None,
        shared_arrival_share=round(num_shared / num_events, 4) if num_events else None,
        client_busy_shares=[round(share, 3) for share in busy_shares],
        time_to_first_token=distribution(first for times in good if (first := first_token_seconds(times)) is not None),
        inter_token=distribution(gap for times in good for gap in inter_token_seconds(times)),
        between_arrivals=distribution(gap for times in good for gap in arrival_gaps_seconds(times)),
        time_per_output_token=distribution(
            (times.total_seconds - first) / (times.output_tokens - 1)
            for times in good
            if times.output_tokens > 1 and (first := first_token_seconds(times)) is not None
        ),
        request_duration=distribution(times.total_seconds for times in good),
        send_delay=distribution(t.sent_seconds - t.planned_seconds for t in results if t.planned_seconds is not None),
        course=course_of(good, changes, duration_seconds),
        requests=[_summary(times) for times in results],
    )


def first_token_seconds(times: RequestTimes) -> float | None:
    """From the sending to the first text; None where nothing was streamed."""
    return times.arrival_microseconds[0] / 1e6 if times.arrival_microseconds else None


def arrival_gaps_seconds(times: RequestTimes) -> Iterator[float]:
    """The times between the reads that brought text."""
    stamps = times.arrival_microseconds
    return ((later - earlier) / 1e6 for earlier, later in itertools.pairwise(stamps))


def inter_token_seconds(times: RequestTimes) -> Iterator[float]:
    """The time of each event after the first read: the time since the read before, by the events that this one brought."""
    for gap, num_events in zip(arrival_gaps_seconds(times), times.arrival_events[1:], strict=True):
        yield from [gap / num_events] * num_events


def course_of(good: Sequence[RequestTimes], changes: Sequence[tuple[float, int]], duration_seconds: float) -> Course:
    """Tokens and requests over time."""
    interval = max(duration_seconds, 1e-3) / _NUM_INTERVALS
    tokens = [0.0] * _NUM_INTERVALS
    for times in good:
        for seconds, num_tokens in _tokens_in_time(times, interval):
            tokens[min(int(seconds / interval), _NUM_INTERVALS - 1)] += num_tokens
    return Course(
        interval_seconds=round(interval, 6),
        output_tokens_per_second=[round(num / interval, 3) for num in tokens],
        requests_in_flight=_most_in_each(changes, interval),
    )


def _tokens_in_time(times: RequestTimes, interval: float) -> Iterator[tuple[float, float]]:
    """(seconds from the load's start, tokens) of one answer."""
    num_events = sum(times.arrival_events)
    if num_events:
        for stamp, events in zip(times.arrival_microseconds, times.arrival_events, strict=True):
            yield times.sent_seconds + stamp / 1e6, times.output_tokens * events / num_events
        return
    num_pieces = math.ceil(4 * times.total_seconds / interval) or 1
    for piece in range(num_pieces):
        yield times.sent_seconds + times.total_seconds * (piece + 0.5) / num_pieces, times.output_tokens / num_pieces


def _changes_in_flight(results: Sequence[RequestTimes]) -> list[tuple[float, int]]:
    """(seconds, requests in flight from then on), in order of time; at one time the ends come before the beginnings."""
    steps = [(times.sent_seconds, 1) for times in results]
    steps += [(times.sent_seconds + times.total_seconds, -1) for times in results]
    changes, num_in_flight = [], 0
    for seconds, step in sorted(steps):
        num_in_flight += step
        changes.append((seconds, num_in_flight))
    return changes


def _most_in_each(changes: Sequence[tuple[float, int]], interval: float) -> list[int]:
    most, current, waiting = [], 0, list(reversed(changes))
    for place in range(_NUM_INTERVALS):
        highest = current
        while waiting and waiting[-1][0] < (place + 1) * interval:
            current = waiting.pop()[1]
            highest = max(highest, current)
        most.append(highest)
    return most


def _summary(times: RequestTimes) -> RequestSummary:
    first = first_token_seconds(times)
    return RequestSummary(
        number=times.number,
        client=times.client,
        planned_seconds=None if times.planned_seconds is None else round(times.planned_seconds, 6),
        sent_seconds=round(times.sent_seconds, 6),
        first_token_seconds=first,
        total_seconds=round(times.total_seconds, 6),
        prompt_tokens=times.prompt_tokens,
        output_tokens=times.output_tokens,
        error=times.error,
    )
