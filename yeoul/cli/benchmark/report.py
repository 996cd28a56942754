"""Sums up a load: throughput, distributions of times, and both over the load's course; knows nothing of HTTP and terminals.

Called by ``commands``; ``report_views`` and ``plot`` show what it makes.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from yeoul import __version__
from yeoul.cli.benchmark.distribution import Distribution, distribution
from yeoul.cli.benchmark.machine import Machine
from yeoul.cli.benchmark.plan import LoadPlan, LoadResult, RequestTimes

_NUM_INTERVALS = 60


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """The load over time, in equal intervals. An answer that was not streamed counts as if its tokens had come evenly.

    ``requests_in_flight`` is their mean within each.
    """

    interval_seconds: float
    output_tokens_per_second: list[float]
    requests_in_flight: list[float]


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
    requests: list[RequestTimes]


def sum_up(plan: LoadPlan, result: LoadResult, *, machine: Machine, server: str | None, started_at: str) -> LoadReport:
    """The report on a load of at least one request."""
    results, duration_seconds = result.requests, result.duration_seconds
    good = [times for times in results if times.error is None]
    errors = [times.error for times in results if times.error is not None]
    prompt_tokens = sum(times.prompt_tokens for times in good)
    output_tokens = sum(times.output_tokens for times in good)
    num_events = sum(sum(times.arrival_events) for times in good)
    num_shared = sum(events for times in good for events in times.arrival_events if events > 1)
    return LoadReport(
        started_at=started_at,
        yeoul_version=__version__,
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
        most_in_flight=_most_in_flight(results),
        output_tokens_per_event=round(output_tokens / num_events, 4) if num_events else None,
        shared_arrival_share=round(num_shared / num_events, 4) if num_events else None,
        client_busy_shares=[round(share, 3) for share in result.busy_shares],
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
        course=course_of(results, duration_seconds),
        requests=results,
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


def course_of(results: Sequence[RequestTimes], duration_seconds: float) -> Course:
    """Tokens of the requests that went well, and all requests, over time."""
    edges = np.linspace(0, max(duration_seconds, 1e-3), _NUM_INTERVALS + 1)
    tokens, seconds_in_flight = np.zeros(_NUM_INTERVALS), np.zeros(_NUM_INTERVALS)
    for times in results:
        seconds = np.diff(np.clip(edges, times.sent_seconds, times.sent_seconds + times.total_seconds))
        seconds_in_flight += seconds
        if times.error is None:
            weights = seconds
            if times.arrival_events:
                moments = np.minimum(times.sent_seconds + np.array(times.arrival_microseconds) / 1e6, edges[-1])
                weights, _ = np.histogram(moments, edges, weights=times.arrival_events)
            tokens += times.output_tokens * weights / weights.sum()
    return Course(
        interval_seconds=round(float(edges[1]), 6),
        output_tokens_per_second=(tokens / edges[1]).round(3).tolist(),
        requests_in_flight=(seconds_in_flight / edges[1]).round(3).tolist(),
    )


def _most_in_flight(results: Sequence[RequestTimes]) -> int:
    """At one time the ends come before the beginnings."""
    steps = [(times.sent_seconds, 1) for times in results]
    steps += [(times.sent_seconds + times.total_seconds, -1) for times in results]
    return max(itertools.accumulate(step for _, step in sorted(steps)))
