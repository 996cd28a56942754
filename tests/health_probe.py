"""Asks ``/health`` every few milliseconds from a process of its own: how long it took, and how late the probe was woken.

Both as the 99th percentile in milliseconds: on a busy machine the one is to be held against the other.

``python -m tests.health_probe PORT`` runs until its standard input is closed.
"""

from __future__ import annotations

import http.client
import select
import subprocess
import sys
import time
from types import TracebackType

INTERVAL_SECONDS = 0.01


class HealthProbe:
    """Runs the probe beside a load; ``p99_milliseconds`` and ``p99_late_milliseconds`` are there after the block."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.p99_milliseconds = self.p99_late_milliseconds = 0.0
        self.num_answers = 0

    def __enter__(self) -> HealthProbe:
        command = [sys.executable, "-m", "tests.health_probe", str(self._port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        output, _ = self._process.communicate(timeout=20)
        if kind is None:
            p99, late, num_answers = output.split()
            self.p99_milliseconds, self.p99_late_milliseconds, self.num_answers = float(p99), float(late), int(num_answers)


def main(port: int) -> None:
    """Measures until standard input ends."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    latencies, late = [], []
    end = time.perf_counter()
    while not select.select([sys.stdin], [], [], INTERVAL_SECONDS)[0]:
        start = time.perf_counter()
        late.append(start - end - INTERVAL_SECONDS)
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        end = time.perf_counter()
        latencies.append(end - start)
    connection.close()
    p99s = (1000 * sorted(times)[int(len(times) * 0.99)] for times in (latencies, late))
    print(*p99s, len(latencies))


if __name__ == "__main__":
    main(int(sys.argv[1]))
