"""A report on requests that a test makes up."""

from yeoul.cli.benchmark.machine import Machine
from yeoul.cli.benchmark.plan import LoadPlan, LoadResult, RequestTimes
from yeoul.cli.benchmark.report import LoadReport, sum_up

MACHINE = Machine(processor="Abacus <9> & Co", num_cpus=2, memory_bytes=1, system="Linux", python="3", load_average=0.0)


def plan(**changes: object) -> LoadPlan:
    fields: dict[str, object] = {"mode": "serve", "url": "http://x", "model": "m", "num_prompts": 2, "max_concurrency": 1}
    return LoadPlan(**(fields | changes))  # type: ignore[arg-type]


def answer(sent_seconds: float = 0.0, arrivals: tuple[float, ...] = (1.0, 1.5, 2.2), **changes: object) -> RequestTimes:
    """A streamed answer whose events arrived at these seconds, one a read."""
    fields: dict[str, object] = {
        "sent_seconds": sent_seconds,
        "prompt_tokens": 3,
        "output_tokens": len(arrivals),
        "arrival_microseconds": [round(seconds * 1e6) for seconds in arrivals],
        "arrival_events": [1] * len(arrivals),
        "total_seconds": max(arrivals, default=1.0),
    }
    return RequestTimes(**(fields | changes))  # type: ignore[arg-type]


def report_on(
    *requests: RequestTimes, duration_seconds: float = 4.0, busy_shares: tuple[float, ...] = (0.1,), **changes: object
) -> LoadReport:
    result = LoadResult(requests=list(requests), duration_seconds=duration_seconds, busy_shares=list(busy_shares))
    return sum_up(plan(**changes), result, machine=MACHINE, server="uvicorn 1", started_at="2030-01-01T00:00:00+00:00")
