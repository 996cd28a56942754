"""What the largest bodies cost everybody else: the longest pause of ``/health`` while each is sent and answered, and memory.

``python -m benchmarks.largest_bodies [--rounds 5] [--model fake]`` starts a server, sends each body of
``tests/largest_bodies.py`` so many times, and prints the status, the time of the answer, the longest time that ``/health``
took meanwhile (the least of all rounds: more is the machine's), and by how much the web process grew.
"""

from __future__ import annotations

import argparse
import http.client
import threading
import time
from typing import NamedTuple

from tests.largest_bodies import largest_bodies
from tests.running_server import RunningServer

_INTERVAL_SECONDS = 0.002


class Sent(NamedTuple):
    """What one body did. Seconds, and bytes of the answer."""

    status: int
    seconds: float
    longest_pause: float
    num_bytes: int


def send(port: int, path: str, body: bytes) -> Sent:
    """Sends a body while another connection asks ``/health`` again and again."""
    is_over, pauses = threading.Event(), [0.0]

    def ask() -> None:
        probe = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not is_over.wait(_INTERVAL_SECONDS):
            start = time.perf_counter()
            probe.request("GET", "/health")
            probe.getresponse().read()
            pauses.append(time.perf_counter() - start)
        probe.close()

    probing = threading.Thread(target=ask)
    probing.start()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    start = time.perf_counter()
    connection.request("POST", path, body, {"content-type": "application/json"})
    answer = connection.getresponse()
    num_bytes = 0
    while piece := answer.read(1 << 16):
        num_bytes += len(piece)
    seconds = time.perf_counter() - start
    connection.close()
    is_over.set()
    probing.join()
    return Sent(answer.status, seconds, max(pauses), num_bytes)


def peak_mebibytes(pid: int) -> float:
    """The most memory that the process has had so far."""
    with open(f"/proc/{pid}/status") as file:
        (line,) = (line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="fake")
    arguments = parser.parse_args()
    with RunningServer(model=arguments.model, timeout_seconds=300.0) as server:
        bodies = [("nothing", "/v1/completions", b'{"prompt":"x","max_tokens":1}'), *largest_bodies()]
        print(f"{'body':40} {'MB':>5} {'status':>6} {'seconds':>8} {'pause ms':>8} {'peak + MB':>9}")
        for name, path, body in bodies:
            before = peak_mebibytes(server.pid)
            rounds = [send(server.port, path, body) for _ in range(arguments.rounds)]
            pause, seconds = min(sent.longest_pause for sent in rounds), min(sent.seconds for sent in rounds)
            growth = peak_mebibytes(server.pid) - before
            print(f"{name:40} {len(body) / 1e6:5.1f} {rounds[0].status:6} {seconds:8.3f} {pause * 1e3:8.1f} {growth:9.1f}")


if __name__ == "__main__":
    main()
