"""What a server still gets done when five times as much comes as it can carry: goodput, memory, and how ``/health`` answers.

``python -m benchmarks.overload [MODEL] [--factor 5] [--seconds 30] [--rounds 3] [--deadlines none,10]`` takes rounds on one
server. First comes the peak: a closed loop of ``--streams`` requests. Then requests come ``--factor`` times as fast as that
had them answered, as a Poisson process, whatever becomes of them, once for each deadline (``deadline_seconds`` of every
request; ``none`` has none). Goodput is the tokens of answers that were complete, in time and within the last four fifths of
the load, a second. Further flags go to ``yeoul serve``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from dataclasses import dataclass
from typing import Any

from tests.health_probe import HealthProbe
from tests.running_server import YEOUL, RunningServer, pss_bytes

INPUT_TOKENS = 128
OUTPUT_TOKENS = 64


@dataclass(frozen=True)
class Load:
    """One load: tokens a second of complete answers, requests by what became of them, and the server beside it."""

    goodput: float
    requests_per_second: float
    outcomes: dict[str, int]
    health_p99_milliseconds: float
    pss_megabytes: float
    num_preemptions: float


def take_load(server: RunningServer, window: tuple[float, float] | None, *flags: str) -> Load:
    """Sends a load; with a window (seconds from its start) only answers that end in it count."""
    shape = ("--input-len", str(INPUT_TOKENS), "--output-len", str(OUTPUT_TOKENS), "--json", "-")
    before = server.metrics()["yeoul:num_preemptions_total"]
    with HealthProbe(server.port) as probe:
        command = [str(YEOUL), "bench", "serve", "--url", server.url, *shape, *flags]
        result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.stdout, result.stderr  # its exit code tells that some were refused, as they should be
    report: dict[str, Any] = json.loads(result.stdout)
    start, end = window or (0.0, report["duration_seconds"])
    good = [
        request
        for request in report["requests"]
        if request["error"] is None and start <= request["sent_seconds"] + request["total_seconds"] < end
    ]
    outcomes = {"answered": report["num_completed"]}
    for error, number in report["errors"].items():
        outcomes[error[:8]] = outcomes.get(error[:8], 0) + number
    return Load(
        goodput=sum(request["output_tokens"] for request in good) / (end - start),
        requests_per_second=report["requests_per_second"],
        outcomes=outcomes,
        health_p99_milliseconds=probe.p99_milliseconds,
        pss_megabytes=pss_bytes(server.tree()) / 1e6,
        num_preemptions=server.metrics()["yeoul:num_preemptions_total"] - before,
    )


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2-135m-instruct")
    parser.add_argument("--factor", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--deadlines", default="none,10")
    arguments, serve_flags = parser.parse_known_args()
    loads: dict[str, list[Load]] = {name: [] for name in ("peak", *arguments.deadlines.split(","))}
    with RunningServer(*serve_flags, model=arguments.model, timeout_seconds=300) as server:
        for number in range(arguments.rounds):
            closed = ("--max-concurrency", str(arguments.streams), "--num-prompts", str(8 * arguments.streams))
            loads["peak"].append(take_load(server, None, "--seed", str(number), *closed))
            rate = arguments.factor * loads["peak"][-1].requests_per_second
            for deadline in arguments.deadlines.split(","):
                flags = ["--request-rate", f"{rate:.2f}", "--num-prompts", str(int(rate * arguments.seconds))]
                if deadline != "none":
                    flags += ["--extra-body", json.dumps({"deadline_seconds": float(deadline)})]
                window = (arguments.seconds / 5, arguments.seconds)
                loads[deadline].append(take_load(server, window, "--seed", str(100 + number), *flags))
    show(loads)


def show(loads: dict[str, list[Load]]) -> None:
    """A row a load: medians of the rounds, the worst ``/health``, what became of the requests of all rounds."""
    print("load | goodput tokens/s (of the peak) | /health p99 ms | memory MB after each round | preemptions | outcomes")
    peak = statistics.median(load.goodput for load in loads["peak"])
    for name, taken in loads.items():
        goodput = statistics.median(load.goodput for load in taken)
        outcomes: dict[str, int] = {}
        for load in taken:
            outcomes = {key: outcomes.get(key, 0) + load.outcomes.get(key, 0) for key in {**outcomes, **load.outcomes}}
        health = max(load.health_p99_milliseconds for load in taken)
        memory = ", ".join(f"{load.pss_megabytes:.0f}" for load in taken)
        num_preemptions = sum(load.num_preemptions for load in taken)
        print(
            f"{name:>8} | {goodput:.0f} ({goodput / peak:.2f}) | {health:.1f} | {memory} | {num_preemptions:.0f} | {outcomes}"
        )


if __name__ == "__main__":
    main()
