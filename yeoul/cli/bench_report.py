"""Sums up a load: throughput, and the percentiles of its times, as a struct, a table or JSON; knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from yeoul.cli.bench_load import LoadPlan, RequestTimes

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of times, in milliseconds."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a load has shown. Times are over the requests that went well; None where there is none.

    ``inter_token`` is the time between two pieces of text of one answer, ``time_per_output_token`` a request's time
    after its first token, divided by its further tokens.
    """

    url: str
    model: str
    max_concurrency: int
    input_len: int
    output_len: int
    num_completed: int
    num_failed: int
    first_error: str | None
    duration_seconds: float
    total_prompt_tokens: int
    total_output_tokens: int
    requests_per_second: float
    output_tokens_per_second: float
    total_tokens_per_second: float
    time_to_first_token: Percentiles | None
    time_per_output_token: Percentiles | None
    inter_token: Percentiles | None
    request_duration: Percentiles | None


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of ``ordered`` lies, between neighbours linearly; ``ordered`` is not empty."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def percentiles(seconds: Sequence[float]) -> Percentiles | None:
    """The distribution of ``seconds``, in milliseconds rounded to microseconds; None if there are none."""
    if not seconds:
        return None
    ordered = sorted(value * 1000 for value in seconds)
    return Percentiles(
        mean=round(sum(ordered) / len(ordered), 3),
        p50=round(percentile(ordered, 0.50), 3),
        p90=round(percentile(ordered, 0.90), 3),
        p95=round(percentile(ordered, 0.95), 3),
        p99=round(percentile(ordered, 0.99), 3),
        max=round(ordered[-1], 3),
    )


def sum_up(plan: LoadPlan, results: Sequence[RequestTimes], duration_seconds: float) -> LoadReport:
    """The report on a load of which each request is in ``results``."""
    good = [times for times in results if times.error is None]
    errors = [times.error for times in results if times.error is not None]
    prompt_tokens = sum(times.prompt_tokens for times in good)
    output_tokens = sum(times.output_tokens for times in good)
    return LoadReport(
        url=plan.url,
        model=plan.model,
        max_concurrency=plan.max_concurrency,
        input_len=plan.input_len,
        output_len=plan.output_len,
        num_completed=len(good),
        num_failed=len(errors),
        first_error=errors[0] if errors else None,
        duration_seconds=round(duration_seconds, 4),
        total_prompt_tokens=prompt_tokens,
        total_output_tokens=output_tokens,
        requests_per_second=round(len(good) / duration_seconds, 4),
        output_tokens_per_second=round(output_tokens / duration_seconds, 3),
        total_tokens_per_second=round((prompt_tokens + output_tokens) / duration_seconds, 3),
        time_to_first_token=percentiles([t.first_token_seconds for t in good if t.first_token_seconds is not None]),
        time_per_output_token=percentiles(
            [
                (times.total_seconds - times.first_token_seconds) / (times.output_tokens - 1)
                for times in good
                if times.first_token_seconds is not None and times.output_tokens > 1
            ]
        ),
        inter_token=percentiles([gap for times in good for gap in times.gaps_seconds]),
        request_duration=percentiles([times.total_seconds for times in good]),
    )


def as_json(report: LoadReport) -> bytes:
    """The report as indented JSON, times in milliseconds."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def headline(report: LoadReport) -> str:
    """The totals in two lines."""
    return (
        f"{report.model}: {report.num_completed} of {report.num_completed + report.num_failed} requests "
        f"in {report.duration_seconds:.1f} s, {report.max_concurrency} at a time, "
        f"{report.total_prompt_tokens:,} tokens in, {report.total_output_tokens:,} out\n"
        f"{report.output_tokens_per_second:.1f} output tokens/s, {report.total_tokens_per_second:.1f} tokens/s in all, "
        f"{report.requests_per_second:.2f} requests/s"
    )


def as_table(report: LoadReport) -> Table:
    """The times as a rich table, a row a kind."""
    from rich.table import Table

    table = Table("milliseconds")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for label, row in (
        ("time to first token", report.time_to_first_token),
        ("between tokens", report.inter_token),
        ("per output token", report.time_per_output_token),
        ("whole request", report.request_duration),
    ):
        if row is not None:
            table.add_row(label, *(f"{getattr(row, column):.1f}" for column in _COLUMNS))
    return table
