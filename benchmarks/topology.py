"""What it costs to be looked at: processor time of the whole tree while somebody looks once a second and while nobody does.

``python -m benchmarks.topology [MODEL] [--seconds 20] [--rounds 3] [--streams 8]`` takes rounds on one server, in turns: with
nobody, with one who follows ``/debug/events`` as an open page does, and with one who asks for ``/topology``; idle, and with
so many streams (0: idle alone). Under load the tree takes what the machine has, so there tokens a second tell more and the
processor time of all but the workers, who are asked nothing. The same with ``/version`` tells what any request costs;
``--paths`` takes only some of these.
Times are the kernel's own, in nanoseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from pathlib import Path

import httpx

from benchmarks.fairness import Stream
from tests.running_server import RunningServer, title

NUM_TOKENS = 400
EVENTS = "/debug/events"


def cpu_seconds(pids: list[int]) -> float:
    """What the threads that live now have used."""
    times = [path.read_text().split()[0] for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(map(int, times)) / 1e9


async def look(url: str, path: str, seconds: float) -> None:
    """Once a second, on one connection."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        end = time.perf_counter() + seconds
        if path == EVENTS:
            async with http.stream("GET", path) as answer:
                async for _ in answer.raise_for_status().aiter_raw():
                    if time.perf_counter() >= end:
                        return
        while time.perf_counter() < end:
            (await http.get(path)).raise_for_status()
            await asyncio.sleep(1.0)


async def stream_for(port: int, seconds: float) -> int:
    """One stream after another; the tokens that came."""
    num_tokens, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        stream = Stream(port, "The river runs fastest where", NUM_TOKENS)
        running = asyncio.create_task(stream.run())
        await asyncio.wait((running,), timeout=max(0.0, end - time.perf_counter()))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        num_tokens += len(stream.times)
    return num_tokens


async def measure(server: RunningServer, seconds: float, num_streams: int, *, path: str | None) -> tuple[float, float, float]:
    """Shares of a core: the whole tree's, and that of all but the workers; tokens a second."""
    pids = server.tree()
    others = [pid for pid in pids if "Worker" not in title(pid)]
    before, before_others, start = cpu_seconds(pids), cpu_seconds(others), time.perf_counter()
    watching = asyncio.create_task(look(server.url, path, seconds)) if path is not None else None
    if num_streams:
        num_tokens = sum(await asyncio.gather(*(stream_for(server.port, seconds) for _ in range(num_streams))))
    else:
        num_tokens = 0
        await asyncio.sleep(seconds)
    if watching is not None:
        await watching
    took = time.perf_counter() - start
    return (cpu_seconds(pids) - before) / took, (cpu_seconds(others) - before_others) / took, num_tokens / took


PATHS = ("/version", "/topology", EVENTS)


async def run(server: RunningServer, seconds: float, num_rounds: int, num_streams: int, paths: list[str | None]) -> None:
    """Prints a line a round, and the medians."""
    for streams in dict.fromkeys((0, num_streams)):
        await measure(server, 3.0, streams, path="/topology")
        found: dict[str | None, list[tuple[float, float, float]]] = {path: [] for path in paths}
        for number in range(num_rounds):
            for path in paths if number % 2 == 0 else reversed(paths):
                found[path].append(await measure(server, seconds, streams, path=path))
                tree, others, pace = found[path][-1]
                shares = f"tree {tree:.3%}, without workers {others:.3%}"
                print(f"{streams} streams, {path or 'nothing':13} {shares}, {pace:.1f} tokens/s", flush=True)
        alone, *asked = ([statistics.median(column) for column in zip(*found[path], strict=True)] for path in paths)
        for path, (tree, others, pace) in zip(paths[1:], asked, strict=True):
            more = f"tree {tree - alone[0]:+.3%}, without workers {others - alone[1]:+.3%} of a core"
            print(f"{streams} streams, medians, {path}: {more}, {alone[2]:.1f} and {pace:.1f} tokens/s")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2-135m-instruct")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--paths", nargs="*", default=PATHS)
    chosen, flags = parser.parse_known_args()
    with RunningServer("--served-model-name", "m", *flags, model=chosen.model, timeout_seconds=300.0) as server:
        asyncio.run(run(server, chosen.seconds, chosen.rounds, chosen.streams, [None, *chosen.paths]))


if __name__ == "__main__":
    main()
