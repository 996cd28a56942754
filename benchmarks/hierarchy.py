"""What the hierarchy itself costs: the fake model behind everything real, streamed over HTTP to a light client.

``python -m benchmarks.hierarchy [--streams 1,32,256] [--tokens 512]`` starts ``yeoul serve fake`` and prints,
for each number of streams: tokens a second over HTTP (an event a token), steps a second, and the CPU time that each process
spent a step and a token. The client counts events in raw bytes from a process of its own and is listed with its own cost.
Each ``--flags`` starts a server of its own with these flags, and they take turns for so many ``--rounds``: medians are shown.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from tests.running_server import RunningServer, cpu_seconds

_KINDS = ("Web", "Keeper", "EngineCore", "Worker_")


def request_bytes(max_tokens: int) -> bytes:
    """One streamed completion of exactly ``max_tokens`` tokens."""
    body = json.dumps({"prompt": "river", "max_tokens": max_tokens, "ignore_eos": True, "stream": True, "seed": 1})
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    )
    return f"{head}\r\nconnection: close\r\n\r\n{body}".encode()


def received(port: int, num_streams: int, max_tokens: int) -> Iterator[bytes]:
    """What comes of all streams, as it comes; each is ``request_bytes``, and all are sent at once."""
    selector = selectors.DefaultSelector()
    for _ in range(num_streams):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(request_bytes(max_tokens))
        selector.register(connection, selectors.EVENT_READ)
    while selector.get_map():
        for key, _ in selector.select():
            readable = key.fileobj
            assert isinstance(readable, socket.socket)
            data = readable.recv(1 << 18)
            yield data
            if not data:
                selector.unregister(readable)
                readable.close()


def stream_all(port: int, num_streams: int, max_tokens: int) -> tuple[float, int, float]:
    """Runs all streams at once: seconds, events, seconds of this process's CPU."""
    num_events, start, cpu = 0, time.perf_counter(), time.process_time()
    for data in received(port, num_streams, max_tokens):
        num_events += data.count(b'"text":')
    return time.perf_counter() - start, num_events, time.process_time() - cpu


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", default="1,32,256")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--model", default="fake")
    parser.add_argument("--flags", action="append", help="flags of a server, as --flags='--a b'; may be repeated")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--client", nargs=3, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client is not None:
        print(json.dumps(stream_all(*arguments.client)))
        return
    with contextlib.ExitStack() as running:
        servers = {
            flags: running.enter_context(RunningServer(*flags.split(), model=arguments.model, timeout_seconds=300.0))
            for flags in arguments.flags or [""]
        }
        for server in servers.values():
            measure(server, 1, 64)  # warm-up, not printed
        print(f"{'streams':>7} {'tokens/s':>9} {'steps/s':>8} | CPU µs a step (a token): web, keeper, engine, worker, client")
        for num_streams in map(int, arguments.streams.split(",")):
            rows: dict[str, list[Row]] = {flags: [] for flags in servers}
            for _ in range(arguments.rounds):
                for flags, server in servers.items():
                    rows[flags].append(measure(server, num_streams, arguments.tokens))
            for flags in servers:
                show(num_streams, num_streams * arguments.tokens, rows[flags], flags)


class Row(NamedTuple):
    """What one load took; ``cpu_seconds`` are those of web processes, their keeper, engines, workers and client."""

    seconds: float
    num_events: int
    num_steps: float
    cpu_seconds: list[float]


def measure(server: RunningServer, num_streams: int, max_tokens: int) -> Row:
    """One load on one server."""
    titles = server.by_title()
    pids = [[pid for title, pid in titles.items() if title.startswith(f"yeoul::{kind}")] for kind in _KINDS]
    before, steps_before = [cpu_seconds(each) for each in pids], server.metrics()["yeoul:engine_steps_total"]
    command = [sys.executable, "-m", "benchmarks.hierarchy", "--client", *map(str, (server.port, num_streams, max_tokens))]
    seconds, num_events, client_cpu = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    spent = [cpu_seconds(each) - old for each, old in zip(pids, before, strict=True)] + [client_cpu]
    return Row(seconds, num_events, server.metrics()["yeoul:engine_steps_total"] - steps_before, spent)


def show(num_streams: int, num_tokens: int, rows: list[Row], flags: str) -> None:
    """Prints the medians of these rows."""
    num_steps = median(row.num_steps for row in rows)
    seconds = median(row.seconds for row in rows)
    spent = [median(cpu) for cpu in zip(*(row.cpu_seconds for row in rows), strict=True)]
    costs = ", ".join(f"{cpu / num_steps * 1e6:.0f} ({cpu / num_tokens * 1e6:.1f})" for cpu in spent)
    num_events = median(row.num_events for row in rows)
    note = "" if num_events == num_tokens else f"  ({num_events:.0f} events)"
    print(f"{num_streams:>7} {num_tokens / seconds:>9.0f} {num_steps / seconds:>8.0f} | {costs}{note}  {flags}", flush=True)


if __name__ == "__main__":
    main()
