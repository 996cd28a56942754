"""Starts the client processes of a benchmark, gives each its part, and collects their times; knows nothing of HTTP.

Called by ``commands``.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from yeoul.cli.benchmark.arrivals import arrival_seconds
from yeoul.cli.benchmark.plan import (
    START_TIME,
    ClientEnd,
    ClientReady,
    ClientReport,
    ClientStart,
    LoadPlan,
    PlannedRequest,
    Prompt,
    RequestTimes,
)
from yeoul.errors import ConfigError, ProcessDeadError, TransportTimeoutError
from yeoul.messages.reports import Failure
from yeoul.transport.child_process import ChildProcess

_START_DELAY_SECONDS = 0.02  # from the word to the start: time for all clients to have heard it


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """All requests in the order of their numbers; ``duration_seconds`` from the start to the last answer's end."""

    requests: list[RequestTimes]
    duration_seconds: float
    busy_shares: list[float]


def run_load(
    plan: LoadPlan, warmups: Sequence[Prompt], prompts: Sequence[Prompt], on_done: Callable[[RequestTimes], None]
) -> LoadResult:
    """Sends all prompts as ``plan`` has it. A request that fails has its ``error`` set; ``on_done`` is called after each.

    Raises:
        ProcessDeadError: a client process died.
    """
    with contextlib.ExitStack() as ends:
        clients = [_start_client(ends, number, start) for number, start in enumerate(share_out(plan, warmups, prompts))]
        for client in clients:
            client.wait_until_ready()
        start_time = time.perf_counter() + _START_DELAY_SECONDS
        for client in clients:
            os.write(client.go_fd, START_TIME.pack(start_time))
        return _collect(clients, on_done)


def share_out(plan: LoadPlan, warmups: Sequence[Prompt], prompts: Sequence[Prompt]) -> list[ClientStart]:
    """Each client's part: requests, warm-ups and concurrency are dealt in turn. ``go_fd`` is not known yet.

    Raises:
        ConfigError: there are more clients than requests, or than may be sent at a time.
    """
    lanes = min(plan.max_concurrency or len(prompts), len(prompts))
    if plan.num_clients > lanes:
        what = "requests" if lanes == len(prompts) else "requests at a time (--max-concurrency)"
        raise ConfigError(f"--num-clients is {plan.num_clients}; expected at most the number of {what}, {lanes}")
    due: Sequence[float | None] = [None] * len(prompts)
    if plan.request_rate is not None:
        due = arrival_seconds(len(prompts), plan.request_rate, plan.burstiness, plan.seed)
    requests = [
        PlannedRequest(number=number, prompt=prompt, max_tokens=plan.output_len, planned_seconds=seconds)
        for number, (prompt, seconds) in enumerate(zip(prompts, due, strict=True))
    ]
    warming = [PlannedRequest(number=-1, prompt=prompt, max_tokens=plan.output_len) for prompt in warmups]
    return [
        ClientStart(
            plan=plan,
            max_concurrency=len(range(number, lanes, plan.num_clients)),
            warmups=warming[number :: plan.num_clients],
            requests=requests[number :: plan.num_clients],
            go_fd=-1,
        )
        for number in range(plan.num_clients)
    ]


class _Client:
    """One client process. ``go_fd`` takes the time of the start."""

    def __init__(self, process: ChildProcess, go_fd: int) -> None:
        self.process = process
        self.go_fd = go_fd
        self.busy_share: float | None = None
        self._pieces: list[bytes] = []

    def wait_until_ready(self) -> None:
        while not isinstance(self.read(None), ClientReady):
            pass

    def read(self, timeout_seconds: float | None) -> ClientReport | None:
        """The next report; None if none is whole within ``timeout_seconds``."""
        while True:
            try:
                piece = self.process.read_report(timeout_seconds)
            except TransportTimeoutError:
                return None
            if piece is None:
                self.process.wait(1.0)
                raise ProcessDeadError(self.process.role, self.process.describe_exit())
            self._pieces.append(piece[1:])
            if piece[0] == 0:
                break
        data, self._pieces = b"".join(self._pieces), []
        report = msgspec.msgpack.decode(data, type=ClientReport)
        if isinstance(report, Failure):
            raise ProcessDeadError(report.role, report.cause, details=report.details)
        return report  # type: ignore[no-any-return]

    def read_all(self) -> Iterator[ClientReport]:
        """What is here, until the client's last report."""
        while self.busy_share is None and (report := self.read(0.0)) is not None:
            if isinstance(report, ClientEnd):
                self.busy_share = report.busy_share
            yield report


def _start_client(ends: contextlib.ExitStack, number: int, start: ClientStart) -> _Client:
    child_fd, go_fd = os.pipe()
    ends.callback(os.close, go_fd)
    try:
        arguments = msgspec.msgpack.encode(msgspec.structs.replace(start, go_fd=child_fd))
        process = ChildProcess.spawn(
            "yeoul.cli.benchmark.client_process", f"yeoul::BenchClient_{number}", arguments, pass_fds=(child_fd,)
        )
    finally:
        os.close(child_fd)
    ends.callback(process.close)
    return _Client(process, go_fd)


def _collect(clients: Sequence[_Client], on_done: Callable[[RequestTimes], None]) -> LoadResult:
    requests: list[RequestTimes] = []
    poller = select.poll()
    by_fd = {client.process.report_fd: client for client in clients}
    for fd in by_fd:
        poller.register(fd, select.POLLIN)
    while by_fd:
        for fd, _ in poller.poll():
            for report in by_fd[fd].read_all():
                if isinstance(report, RequestTimes):
                    requests.append(report)
                    on_done(report)
            if by_fd[fd].busy_share is not None:
                poller.unregister(fd)
                del by_fd[fd]
    requests.sort(key=lambda times: times.number)
    return LoadResult(
        requests=requests,
        duration_seconds=max(times.sent_seconds + times.total_seconds for times in requests),
        busy_shares=[client.busy_share or 0.0 for client in clients],
    )
