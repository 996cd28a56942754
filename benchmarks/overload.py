"""What a server still gets done when five times as much comes as it can carry: goodput, memory, and how ``/health`` answers.

``python -m benchmarks.overload [MODEL] [--factors 1,5] [--seconds 20] [--rounds 2] [--deadlines none,10]`` takes rounds on
one server. First come closed loads (``--streams``); the best of them is what it can carry. Then requests come as a Poisson
process, so many times as fast as that had them answered, whatever becomes of them, for each factor and each deadline
(``deadline_seconds`` of every request; ``none`` has none). Goodput is the tokens of answers that were complete, in time and
within the last four fifths of the load, a second. Further flags go to ``yeoul serve``.
"""

from __future__ import annotations

import argparse
import itertools
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
        kind = next((name for name in ("429", "timeout_error", "504") if name in error), error[:20])
        outcomes[kind] = outcomes.get(kind, 0) + number
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
    parser.add_argument("--factors", default="1,5")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--streams", default="32,128")
    parser.add_argument("--deadlines", default="none,10")
    arguments, serve_flags = parser.parse_known_args()
    loads: dict[str, list[Load]] = {}
    with RunningServer(*serve_flags, model=arguments.model, timeout_seconds=300) as server:
        for number in range(arguments.rounds):
            capacity = 0.0
            for streams in arguments.streams.split(","):
                flags = ("--max-concurrency", streams, "--num-prompts", str(4 * int(streams) + 128), "--seed", str(number))
                load = take_load(server, None, *flags)
                loads.setdefault(f"{streams} streams", []).append(load)
                capacity = max(capacity, load.requests_per_second)
            for deadline, factor in itertools.product(arguments.deadlines.split(","), arguments.factors.split(",")):
                name = f"{factor} x, deadline {deadline}"
                rate = float(factor) * capacity
                load = take_open_load(server, rate, deadline, arguments.seconds, seed=100 + number)
                loads.setdefault(name, []).append(load)
    show(loads)


def take_open_load(server: RunningServer, rate: float, deadline: str, seconds: float, *, seed: int) -> Load:
    """So many requests a second, for so many seconds."""
    flags = ["--request-rate", f"{rate:.2f}", "--num-prompts", str(int(rate * seconds)), "--seed", str(seed)]
    if deadline != "none":
        flags += ["--extra-body", json.dumps({"deadline_seconds": float(deadline)})]
    return take_load(server, (seconds / 5, seconds), *flags)


def show(loads: dict[str, list[Load]]) -> None:
    """A row a load: medians of the rounds, the worst ``/health``, what became of the requests of all rounds."""
    print("load | goodput tokens/s | /health p99 ms | memory MB after each round | preemptions | outcomes")
    for name, taken in loads.items():
        goodput = statistics.median(load.goodput for load in taken)
        outcomes: dict[str, int] = {}
        for load in taken:
            outcomes = {key: outcomes.get(key, 0) + load.outcomes.get(key, 0) for key in {**outcomes, **load.outcomes}}
        health = max(load.health_p99_milliseconds for load in taken)
        memory = ", ".join(f"{load.pss_megabytes:.0f}" for load in taken)
        num_preemptions = sum(load.num_preemptions for load in taken)
        print(f"{name:>20} | {goodput:.0f} | {health:.1f} | {memory} | {num_preemptions:.0f} | {outcomes}")


if __name__ == "__main__":
    main()
