"""What a trace costs: while nobody records, and while somebody does.

``python -m benchmarks.traces [MODEL] [--seconds 4] [--rounds 6] [--streams 8]`` first takes what the code around a step does
alone (the least processor time of many repetitions), off and on. Then it takes rounds on one server under load, in turns:
with ``/debug/trace`` and without; it prints tokens a second and each process's processor time a token.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable

import httpx

from benchmarks.topology import cpu_seconds, stream_for
from tests.running_server import RunningServer, title
from yeoul.engine_process.step_log import StepLog
from yeoul.messages.questions import SpansQuestion
from yeoul.messages.steps import ScheduledRequest, StepInput, StepResult
from yeoul.spans import SPANS

NUM_STEPS = 500


def least_microseconds(work: Callable[[], object], num_times: int = 30) -> float:
    """Of CPU, for one step."""
    times = []
    for _ in range(num_times):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times) / NUM_STEPS * 1e6


def measure_alone() -> None:
    """EngineCore's part of a step, of which only the asking is left while nobody records; and the asking."""
    step = StepInput(step_number=1, scheduled=[ScheduledRequest(f"r{number}", 100, 1, []) for number in range(32)])
    log, result, row = StepLog(), StepResult(1), SPANS.row("run_busy_loop")

    def note_steps() -> None:
        for _ in range(NUM_STEPS):
            log.note_step(step, 1.0, time.monotonic())
            log.note_sent(step)
            log.note_result(step, result, 32, time.monotonic())

    def ask_only() -> None:
        for _ in range(NUM_STEPS):
            if row.is_on:
                raise AssertionError

    def answer() -> None:
        for _ in range(20):
            SPANS.answer(SpansQuestion("EngineCore", 1, 60.0))

    off, asking = least_microseconds(note_steps), least_microseconds(ask_only)
    SPANS.answer(SpansQuestion("EngineCore", 1, 60.0))
    on = least_microseconds(lambda: (note_steps(), answer()))
    SPANS.answer(SpansQuestion("EngineCore", 1, 0.0))
    print(
        f"EngineCore's log of a step with 32 requests: {off:.2f} µs, {on:.2f} while somebody records; asking {asking:.3f} µs"
    )


async def record(url: str, seconds: float) -> int:
    """The events of a trace."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as http:
        answer = (await http.get(f"/debug/trace?seconds={seconds}")).raise_for_status()
        return answer.content.count(b'"ph"')


async def measure(server: RunningServer, seconds: float, num_streams: int, *, is_on: bool) -> dict[str, float]:
    """Tokens a second, and µs of each process's CPU a token."""
    pids = {title(pid).removeprefix("yeoul::"): pid for pid in server.tree()}
    before, start = {name: cpu_seconds([pid]) for name, pid in pids.items()}, time.perf_counter()
    recording = asyncio.create_task(record(server.url, seconds)) if is_on else None
    num_tokens = sum(await asyncio.gather(*(stream_for(server.port, seconds) for _ in range(num_streams))))
    took = time.perf_counter() - start
    found = {"tokens/s": num_tokens / took}
    for name, pid in pids.items():
        found[name] = (cpu_seconds([pid]) - before[name]) / max(1, num_tokens) * 1e6
    if recording is not None:
        found["events"] = await recording
    return found


async def run(server: RunningServer, seconds: float, num_rounds: int, num_streams: int) -> None:
    """Prints a line a round, and the medians."""
    await measure(server, seconds, num_streams, is_on=True)
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for number in range(num_rounds):
        for is_on in (False, True) if number % 2 == 0 else (True, False):
            found[is_on].append(await measure(server, seconds, num_streams, is_on=is_on))
            told = ", ".join(f"{name} {value:.1f}" for name, value in found[is_on][-1].items())
            print(f"{'on ' if is_on else 'off'} {told}", flush=True)
    off, on = (
        {name: statistics.median(one[name] for one in found[is_on]) for name in found[is_on][0]} for is_on in (False, True)
    )
    for name, value in off.items():
        print(f"median {name}: {value:.1f} off, {on[name]:.1f} on ({on[name] / value - 1:+.1%})")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2-135m-instruct")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--streams", type=int, default=8)
    chosen, flags = parser.parse_known_args()
    measure_alone()
    with RunningServer("--served-model-name", "m", *flags, model=chosen.model, timeout_seconds=300.0) as server:
        asyncio.run(run(server, chosen.seconds, chosen.rounds, chosen.streams))


if __name__ == "__main__":
    main()
