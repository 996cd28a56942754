"""What one machine can stream, and by a model of queues what a rack could: costs measured, waits predicted and compared.

``python -m benchmarks.queues`` starts ``yeoul serve fake`` with steps of ``--step-seconds``, with one and with two web
processes. From several numbers of streams it takes what each process spends on a step and on each of its tokens (a line
through the points); and how long after the first client of a step the last one has its token, which the model has to
foretell. ``--costs FILE`` takes costs that ``--write FILE`` wrote, and prints only what the model makes of them.

The model: an engine hands over a burst of as many tokens as it has streams, once a step. Each web process has its share of
every burst to write, one token after the other, behind what it has not written yet of other engines' bursts: a queue with
one server, bursts that come at regular times with phases of chance, and a fixed time for each (Lindley's recursion).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.hierarchy import received
from tests.running_server import RunningServer, cpu_seconds

KINDS = ("Web", "Keeper", "EngineCore")
MOST_BUSY = 0.5  # of a process: beyond it waits grow faster than what is gained


class Cost(NamedTuple):
    """Seconds of CPU: of a step, and of each token of it."""

    of_step: float
    of_token: float

    def burst(self, num_tokens: float) -> float:
        """Of a step with so many tokens."""
        return self.of_step + self.of_token * num_tokens


Costs = dict[str, Cost]


# The model


def waits(cost: Cost, num_engines: int, num_streams: int, num_webs: int, step_seconds: float) -> np.ndarray:
    """How long tokens wait in a web process, from the step's end until they are written: many draws, in seconds.

    Each of ``num_engines`` has ``num_streams`` streams, and gives a burst every ``step_seconds``, two of a thousand more or
    less; a web process has ``1 / num_webs`` of them.
    """
    generator = np.random.default_rng(1)
    share = num_streams / num_webs
    found = []
    for _ in range(20):
        num_steps = 200
        times = (
            generator.uniform(0, step_seconds, (num_engines, 1))
            + np.cumsum(step_seconds * generator.uniform(0.998, 1.002, (num_engines, num_steps)), axis=1)
        ).ravel()
        times.sort()
        service = cost.burst(share)
        backlog = 0.0
        before = times[0]
        for now in times:
            backlog = max(0.0, backlog - (now - before))
            place = generator.uniform(0.0, 1.0, 8)
            found.append(backlog + cost.of_step + place * cost.of_token * share)
            backlog += service
            before = now
    return np.concatenate(found)


def busy(cost: Cost, num_engines: int, num_streams: float, step_seconds: float) -> float:
    """What share of a core this costs."""
    return num_engines * cost.burst(num_streams) / step_seconds


def plan(costs: Costs, num_engines: int, num_streams: int, step_seconds: float) -> tuple[int, dict[str, float]]:
    """The fewest web processes of which none is busier than ``MOST_BUSY``, and how busy each kind of process is then."""
    num_webs = 1
    while busy(costs["Web"], num_engines, num_streams / num_webs, step_seconds) > MOST_BUSY and num_webs < 64:
        num_webs += 1
    shares = {"Web": busy(costs["Web"], num_engines, num_streams / num_webs, step_seconds)}
    shares["EngineCore"] = busy(costs["EngineCore"], 1, num_streams, step_seconds)
    shares["Keeper"] = busy(costs["Keeper"], num_engines, num_streams, step_seconds) if num_webs > 1 else 0.0
    return num_webs, shares


def show_plans(costs: Costs, num_machines: int) -> None:
    """A table over engines, streams and steps of a machine."""
    print(
        f"{'engines':>7} {'streams':>7} {'step ms':>7} {'tokens/s':>9} | webs: web, keeper, engine busy"
        " | wait ms p50, p99 | rack"
    )
    for num_engines in (1, 8):
        for num_streams, step_seconds in ((64, 0.005), (256, 0.012), (256, 0.02), (512, 0.02), (512, 0.04)):
            num_webs, shares = plan(costs, num_engines, num_streams, step_seconds)
            middle, high = np.quantile(waits(costs["Web"], num_engines, num_streams, num_webs, step_seconds), [0.5, 0.99])
            rate = num_engines * num_streams / step_seconds
            parts = ", ".join(f"{100 * shares[kind]:.0f} %" for kind in KINDS)
            print(
                f"{num_engines:>7} {num_streams:>7} {1000 * step_seconds:>7.0f} {rate:>9,.0f} | {num_webs}: {parts}"
                f" | {1000 * middle:.1f}, {1000 * high:.1f} | {num_machines * rate:,.0f} tokens/s"
            )


# The measurement


def arrivals(port: int, num_streams: int, max_tokens: int) -> list[float]:
    """When each event of all streams came, in order."""
    found: list[float] = []
    for data in received(port, num_streams, max_tokens):
        found += [time.perf_counter()] * data.count(b'"text":')
    return found


def spreads(times: list[float], num_streams: int, step_seconds: float) -> np.ndarray:
    """Of the steps in the middle of a run: seconds from the first token of a step that reached a client to the last one.

    Behind a pause a step begins; from there on all streams have a token a step.
    """
    found = np.asarray(times)
    quarter = len(found) // 4
    begin = quarter + 1 + int(np.argmax(np.diff(found[quarter:]) > step_seconds / 4))
    num_steps = (len(found) - quarter - begin) // num_streams
    steps = found[begin : begin + num_steps * num_streams].reshape(num_steps, num_streams)
    return np.asarray(steps[:, -1] - steps[:, 0])


class Run(NamedTuple):
    """One number of streams: seconds of CPU a step by kind of process, of one process of its kind, and spreads."""

    num_streams: int
    num_webs: int
    spent: dict[str, float]
    spreads: np.ndarray


def measure(server: RunningServer, num_streams: int, num_webs: int, step_seconds: float, num_steps: int) -> Run:
    """One load on one server."""
    titles = server.by_title()
    pids = {kind: [pid for title, pid in titles.items() if title.startswith(f"yeoul::{kind}")] for kind in KINDS}
    before = {kind: cpu_seconds(of_kind) for kind, of_kind in pids.items()}
    steps_before = server.metrics()["yeoul:engine_steps_total"]
    command = [sys.executable, "-m", "benchmarks.queues", "--client", *map(str, (server.port, num_streams, num_steps))]
    times = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    spent = {kind: cpu_seconds(of_kind) - before[kind] for kind, of_kind in pids.items()}
    num_done = server.metrics()["yeoul:engine_steps_total"] - steps_before
    a_step = {kind: spent[kind] / num_done / max(1, len(pids[kind])) for kind in KINDS}
    return Run(num_streams, num_webs, a_step, spreads(times, num_streams, step_seconds))


def line_through(points: Sequence[tuple[float, float]]) -> Cost:
    """Least squares of (tokens, seconds), relative to each."""
    tokens, seconds = np.asarray(points).T
    matrix = np.stack([np.ones_like(tokens), tokens], axis=1) / seconds[:, None]
    of_step, of_token = np.linalg.lstsq(matrix, np.ones_like(seconds), rcond=None)[0]
    return Cost(max(0.0, float(of_step)), max(0.0, float(of_token)))


def take_costs(runs: list[Run]) -> Costs:
    """Lines through what was measured; of the keeper where there was one."""
    costs = {
        "Web": line_through([(run.num_streams / run.num_webs, run.spent["Web"]) for run in runs]),
        "EngineCore": line_through([(run.num_streams, run.spent["EngineCore"]) for run in runs]),
        "Keeper": Cost(0.0, 0.0),
    }
    if kept := [(run.num_streams, run.spent["Keeper"]) for run in runs if run.num_webs > 1]:
        costs["Keeper"] = line_through(kept)
    return costs


def main() -> None:
    """Parses the command line, measures, compares and predicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", default="1,16,64,128,256")
    parser.add_argument("--webs", default="1,2")
    parser.add_argument("--step-seconds", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--machines", type=int, default=8)
    parser.add_argument("--costs", type=Path)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--client", nargs=3, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client is not None:
        print(json.dumps(arrivals(*arguments.client)))
        return
    if arguments.costs is not None:
        costs = {kind: Cost(*cost) for kind, cost in json.loads(arguments.costs.read_text()).items()}
    else:
        costs = measure_all(arguments)
    if arguments.write is not None:
        arguments.write.write_text(json.dumps(costs))
    show_plans(costs, arguments.machines)


def measure_all(arguments: argparse.Namespace) -> Costs:
    """All loads on all servers, in turns; prints what was found beside what the model says."""
    step_seconds, runs = arguments.step_seconds, []
    flags = ("--fake-step-seconds", str(step_seconds), "--max-num-seqs", "512")
    with contextlib.ExitStack() as running:
        servers = {
            num_webs: running.enter_context(
                RunningServer(*flags, *(("--api-server-count", str(num_webs)) if num_webs > 1 else ()))
            )
            for num_webs in map(int, arguments.webs.split(","))
        }
        for num_webs, server in servers.items():
            measure(server, 4, num_webs, step_seconds, 20)  # warm-up, of which nothing is kept
        for _ in range(arguments.rounds):
            for num_streams in map(int, arguments.streams.split(",")):
                for num_webs, server in servers.items():
                    runs.append(measure(server, num_streams, num_webs, step_seconds, arguments.steps))
    costs = take_costs(runs)
    for kind, cost in costs.items():
        print(f"{kind}: {1e6 * cost.of_step:.0f} µs a step and {1e6 * cost.of_token:.1f} a token")
    compare(runs, costs["Web"])
    return costs


def compare(runs: list[Run], cost: Cost) -> None:
    """Spreads of steps over their clients: measured, and foretold."""
    print(f"{'streams':>7} {'webs':>4} | ms from the first to the last client of a step: p50 and p99 measured, foretold")
    for num_streams, num_webs in dict.fromkeys((run.num_streams, run.num_webs) for run in runs):
        of_these = [run.spreads for run in runs if (run.num_streams, run.num_webs) == (num_streams, num_webs)]
        together = np.concatenate(of_these)
        if num_streams > 1 and len(together):
            middle, high = np.quantile(together, [0.5, 0.99])
            foretold = cost.of_token * num_streams / num_webs
            print(
                f"{num_streams:>7} {num_webs:>4} | {1000 * middle:.2f} {1000 * high:.2f}, {1000 * foretold:.2f}", flush=True
            )


if __name__ == "__main__":
    main()
