"""A report as a person and as a program read it: headline, remarks, table, JSON; knows nothing of how it came about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from yeoul.cli.benchmark.report import LoadReport

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = ("mean", "min", "p50", "p90", "p95", "p99", "max")
_BUSY_SHARE = 0.8
_LATE_MILLISECONDS = 10.0


def as_json(report: LoadReport) -> bytes:
    """The report as indented JSON, a request a line."""
    requests = b",\n".join(b"    " + msgspec.json.encode(request) for request in report.requests)
    rest = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(report, requests=[])), indent=2)
    return rest.replace(b'"requests": []', b'"requests": [\n' + requests + b"\n  ]") + b"\n"


def headline(report: LoadReport) -> str:
    """The totals in two lines."""
    return (
        f"{report.settings.model}: {report.num_completed} of {report.num_completed + report.num_failed} requests "
        f"in {report.duration_seconds:.1f} s, {load_in_words(report)}, "
        f"{report.total_prompt_tokens:,} tokens in, {report.total_output_tokens:,} out\n"
        f"{report.output_tokens_per_second:,.1f} output tokens/s, {report.total_tokens_per_second:,.1f} tokens/s in all, "
        f"{report.requests_per_second:.2f} requests/s"
    )


def load_in_words(report: LoadReport) -> str:
    """Closed or open, and how much."""
    plan = report.settings
    if plan.request_rate is None:
        most = min(plan.max_concurrency or plan.num_prompts, plan.num_prompts)
        return "one at a time" if most == 1 else f"{most} at a time"
    kind = "" if plan.burstiness == 1.0 else f" (burstiness {plan.burstiness:g})"
    return f"{plan.request_rate:g} requests/s due{kind}, up to {report.most_in_flight} at a time"


def circumstances(report: LoadReport) -> str:
    """What was sent, and from where to where, in two lines."""
    plan, machine = report.settings, report.client_machine
    shared = f" after {plan.prefix_len} shared" if plan.prefix_len else ""
    prompts = f"prompts of a file ({plan.prompts_file})" if plan.prompts_file else f"{plan.input_len} tokens in{shared}"
    kind = ("chat" if plan.is_chat else "completions") + (", streamed" if plan.streams else ", not streamed")
    server = " ".join(["server", *filter(None, [report.server]), "at", plan.url])
    clients = f"{plan.num_clients} client process{'es' if plan.num_clients > 1 else ''} on {machine.processor}"
    return (
        f"yeoul bench {plan.mode}: {prompts}, {plan.output_len} out, {kind}\n"
        f"{server}; {clients}, {machine.num_cpus} CPUs; {report.started_at}, yeoul {report.yeoul_version}"
    )


def short(value: float) -> str:
    """The number for a table or a caption."""
    size = abs(value)
    return f"{value:,.{2 if size < 10 else 1 if size < 1000 else 0}f}"


def has_token_events(report: LoadReport) -> bool:
    """Whether the server sent, by and large, an event a token."""
    per_event = report.output_tokens_per_event
    return per_event is None or 0.98 < per_event < 1.02


def remarks(report: LoadReport) -> list[str]:
    """What a reader of the numbers must know, a line each; none for a plain run."""
    found = []
    busiest = max(report.client_busy_shares, default=0.0)
    if busiest > _BUSY_SHARE:
        found.append(
            f"a client process was busy {busiest:.0%} of the time and may have held the server up: raise --num-clients"
        )
    if report.send_delay is not None and report.send_delay.p99 > _LATE_MILLISECONDS:
        found.append(
            f"requests were sent late (p99 {report.send_delay.p99:.0f} ms), which their times do not count: "
            "raise --max-concurrency or --num-clients"
        )
    if report.shared_arrival_share:
        found.append(
            f"{report.shared_arrival_share:.1%} of the events shared a read with another: "
            "'between tokens' divides the time between reads among them"
        )
    if not has_token_events(report):
        found.append(
            f"the server sent {report.output_tokens_per_event:.2f} tokens an event: 'between tokens' is between events"
        )
    return found


def as_table(report: LoadReport) -> Table:
    """The times as a rich table, a row a kind."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column("milliseconds", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for label, row in (
        ("time to first token", report.time_to_first_token),
        ("between tokens", report.inter_token),
        ("between reads", report.between_arrivals if report.shared_arrival_share else None),
        ("per output token", report.time_per_output_token),
        ("whole request", report.request_duration),
        ("sent late by", report.send_delay),
    ):
        if row is not None:
            table.add_row(label, *(short(getattr(row, column)) for column in _COLUMNS))
    return table
