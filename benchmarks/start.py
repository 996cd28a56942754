"""From the command ``yeoul serve`` to the first token, with the packed weights there or not; and the memory afterwards.

``python -m benchmarks.start [MODEL] [--rounds 5] [--flag=--max-num-seqs=8 ...]`` starts a server again and again, cold (no
packed weights, in a cache folder of its own) and warm by turns. Each row is the median of its kind, in seconds: until HTTP
answers at all, until the first token of a prompt of one word, and the processor time that each process had used by then;
then the proportional set size of all processes, and the most memory that the worker had for itself, which nobody could take
back (looked at every few milliseconds). The model's file is in the page cache: what a disk takes is not measured.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from tests.running_server import RunningServer, cpu_seconds, pss_bytes
from yeoul.config.settings import ModelSettings
from yeoul.model_files.resolve import resolve_model

PROCESSES = ("yeoul::Web", "yeoul::EngineCore", "yeoul::Worker_0")
COLUMNS = ("HTTP", "first token", "CPU web", "engine", "worker", "PSS MB", "own MB")


def measure_start(model: str, flags: list[str]) -> list[float]:
    """One start; the numbers of a row."""
    body = {"prompt": "Hello", "max_tokens": 1}
    http_up, own_bytes, worker = 0.0, 0, 0
    start = time.perf_counter()
    with RunningServer(*flags, model=model, wait=False, timeout_seconds=300.0) as server, httpx.Client() as client:
        while True:
            try:
                status = client.post(f"{server.url}/v1/completions", json=body, timeout=60.0).status_code
            except httpx.TransportError:
                status = 0
            elapsed = time.perf_counter() - start
            http_up = http_up or (elapsed if status else 0.0)
            worker = worker or server.by_title().get("yeoul::Worker_0", 0)
            own_bytes = max(own_bytes, anonymous_bytes(worker))
            if status == 200:
                break
            if server.process.poll() is not None or elapsed > 300.0:
                raise SystemExit(f"the server did not start:\n{server.log()}")
            time.sleep(0.005)
        pids = server.by_title()
        cpu = [cpu_seconds([pids[name]]) for name in PROCESSES]
        return [http_up, elapsed, *cpu, pss_bytes(server.tree()) / 1e6, own_bytes / 1e6]


def anonymous_bytes(pid: int) -> int:
    """The resident memory of a process that no file stands behind; 0 where there is none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flag", action="append", default=[])
    arguments = parser.parse_args()
    model = resolve_model(ModelSettings(model=arguments.model)).path
    rows: dict[str, list[list[float]]] = {"no cache": [], "cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--download-dir", folder, *arguments.flag]
        for _ in range(arguments.rounds):
            rows["no cache"].append(measure_start(model, [*flags, "--no-packed-weights-cache"]))
            shutil.rmtree(f"{folder}/packed", ignore_errors=True)
            rows["cold"].append(measure_start(model, flags))
            rows["warm"].append(measure_start(model, flags))
    print(f"{'':>9}" + "".join(f"{column:>13}" for column in COLUMNS))
    for kind, found in rows.items():
        medians = [statistics.median(values) for values in zip(*found, strict=True)]
        print(
            f"{kind:>9}" + "".join(f"{value:>13.2f}" for value in medians[:-2]) + f"{medians[-2]:>13.0f}{medians[-1]:>13.0f}"
        )
        least = min(row[1] for row in found)
        print(f"{'':>9}{'':>13}{'least ' + format(least, '.2f'):>13}")


if __name__ == "__main__":
    main()
