"""Traffic that goes on while a server is poisoned, and what has to be the same at the end: its answers, its processes."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx

from tests.chaos.traffic import Answer, finish, send
from tests.running_server import RunningServer, alive, num_descriptors

GAUGES = ("yeoul:num_requests_running", "yeoul:num_requests_waiting", "yeoul:kv_cache_usage_ratio")


class Siege:
    """Sends ``bodies`` once undisturbed, and from ``__enter__`` on again and again, all at once, until ``end``."""

    def __init__(self, server: RunningServer, bodies: list[dict[str, Any]]) -> None:
        self.server = server
        self._bodies = bodies
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)
        self._rounds: list[list[Answer]] = []
        self._client = httpx.Client(base_url=server.url, timeout=30.0)

    def __enter__(self) -> Siege:
        self._undisturbed = finish(send(self.server.url, self._bodies), 120.0)
        assert all(answer.is_complete and answer.error is None for answer in self._undisturbed)
        self._good = self._ask()
        self._processes = self.server.by_title()
        self._num_descriptors = num_descriptors(self.server.pid)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._is_over.set()
        self._thread.join(120.0)

    def check_good_request(self) -> None:
        """A request that nothing is wrong with has the answer that it had before."""
        assert self._ask() == self._good

    def end(self) -> None:
        """Waits for the last neighbours, and compares everything."""
        self._is_over.set()
        self._thread.join(120.0)
        assert not self._thread.is_alive(), "a neighbour has not ended"
        expected = [answer.content for answer in self._undisturbed]
        assert len(self._rounds) > 1
        for answers in self._rounds:
            assert [answer.content for answer in answers] == expected
        assert self.server.by_title() == self._processes
        assert alive(self._processes.values()) == set(self._processes.values())
        self._wait_for_rest()
        log = self.server.log()
        assert "Traceback" not in log, log[-3000:]

    def _repeat(self) -> None:
        while not self._is_over.is_set() or len(self._rounds) < 2:
            self._rounds.append(finish(send(self.server.url, self._bodies), 120.0))

    def _ask(self) -> Any:
        body = {"prompt": "a good request", "max_tokens": 2, "temperature": 0, "logprobs": 1}
        answer = self._client.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"]

    def _wait_for_rest(self) -> None:
        """Nothing runs, waits or holds a block, and no descriptor is left over."""
        deadline = time.monotonic() + 20.0
        while True:
            metrics = self.server.metrics()
            left = {name: metrics[name] for name in GAUGES if metrics[name] != 0}
            num_descriptors_left = num_descriptors(self.server.pid) - self._num_descriptors
            if not left and num_descriptors_left <= 0:
                return
            assert time.monotonic() < deadline, f"left over: {left}, {num_descriptors_left} descriptors"
            time.sleep(0.05)
