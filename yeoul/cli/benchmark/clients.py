"""Starts the client processes of a benchmark, gives each its part, and collects their times; knows nothing of HTTP.

Called by ``commands``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np

from yeoul.cli.benchmark.plan import (
    ClientEnd,
    ClientReport,
    ClientStart,
    LoadPlan,
    LoadResult,
    PlannedRequest,
    Prompt,
    RequestTimes,
)
from yeoul.errors import ConfigError, ProcessDeadError, TransportTimeoutError
from yeoul.messages.reports import Failure
from yeoul.transport.child_process import ChildProcess
from yeoul.transport.child_reports import death_of


def run_load(
    plan: LoadPlan, warmups: Sequence[Prompt], prompts: Sequence[Prompt], on_done: Callable[[RequestTimes], None]
) -> LoadResult:
    """Sends all prompts as ``plan`` has it. A request that fails has its ``error`` set; ``on_done`` is called after each.

    Raises:
        ProcessDeadError: a client process died.
    """
    with contextlib.ExitStack() as ends:
        child_fd, go_fd = os.pipe()
        ends.callback(os.close, child_fd)
        go = ends.enter_context(open(go_fd, "wb"))
        clients = [
            ends.enter_context(contextlib.closing(_start_client(number, part)))
            for number, part in enumerate(share_out(plan, warmups, prompts, child_fd))
        ]
        for client in clients:
            _read(client)  # it is ready
        go.close()
        return _collect(clients, on_done)


def share_out(plan: LoadPlan, warmups: Sequence[Prompt], prompts: Sequence[Prompt], go_fd: int = -1) -> list[ClientStart]:
    """Each client's part: requests, warm-ups and concurrency are dealt in turn.

    Raises:
        ConfigError: there are more clients than requests, or than may be sent at a time.
    """
    lanes = min(plan.max_concurrency or len(prompts), len(prompts))
    if plan.num_clients > lanes:
        what = "requests" if lanes == len(prompts) else "requests at a time (--max-concurrency)"
        raise ConfigError(f"--num-clients is {plan.num_clients}; expected at most the number of {what}, {lanes}")
    due: Iterable[float | None] = itertools.repeat(None)
    if plan.request_rate is not None:
        due = arrival_seconds(len(prompts), plan.request_rate, plan.burstiness, plan.seed)
    requests = [
        PlannedRequest(number=number, prompt=prompt, planned_seconds=seconds)
        for number, (prompt, seconds) in enumerate(zip(prompts, due, strict=False))
    ]
    warming = [PlannedRequest(number=-1, prompt=prompt) for prompt in warmups]
    return [
        ClientStart(
            plan=plan,
            max_concurrency=len(range(number, lanes, plan.num_clients)),
            warmups=warming[number :: plan.num_clients],
            requests=requests[number :: plan.num_clients],
            go_fd=go_fd,
        )
        for number in range(plan.num_clients)
    ]


def arrival_seconds(num_requests: int, request_rate: float, burstiness: float, seed: int) -> list[float]:
    """When each request is due, in seconds from the load's start; the first at once; at an infinite rate all of them.

    The times between two are gamma-distributed with mean ``1 / request_rate`` and shape ``burstiness``: 1 makes them
    exponential and the arrivals a Poisson process, less makes bursts, more makes them even.
    """
    gaps = np.random.default_rng(seed).gamma(burstiness, 1.0 / (request_rate * burstiness), num_requests)
    return [float(seconds) for seconds in gaps.cumsum() - gaps[0]]


def _start_client(number: int, start: ClientStart) -> ChildProcess:
    return ChildProcess.spawn(
        "yeoul.cli.benchmark.client_process",
        f"yeoul::BenchClient_{number}",
        msgspec.msgpack.encode(start),
        pass_fds=(start.go_fd,),
    )


def _read(client: ChildProcess, timeout_seconds: float | None = None) -> ClientReport | None:
    """The next report; None if none has begun within ``timeout_seconds``."""
    data, has_more = b"", 1
    while has_more:
        try:
            piece = client.read_report(None if data else timeout_seconds)
        except TransportTimeoutError:
            return None
        if piece is None:
            raise death_of(client)
        if piece[0] > 1:
            failure = msgspec.msgpack.decode(piece, type=Failure)
            raise ProcessDeadError(failure.role, failure.cause, details=failure.details)
        has_more, data = piece[0], data + piece[1:]
    report: ClientReport = msgspec.msgpack.decode(data, type=ClientReport)
    return report


def _collect(clients: Sequence[ChildProcess], on_done: Callable[[RequestTimes], None]) -> LoadResult:
    requests: list[RequestTimes] = []
    busy_shares: dict[int, float] = {}
    with selectors.DefaultSelector() as selector:
        for number, client in enumerate(clients):
            selector.register(client.report_fd, selectors.EVENT_READ, number)
        while len(busy_shares) < len(clients):
            for key, _ in selector.select():
                while (report := _read(clients[key.data], 0.0)) is not None:
                    if isinstance(report, RequestTimes):
                        report.client = key.data
                        requests.append(report)
                        on_done(report)
                    elif isinstance(report, ClientEnd):
                        busy_shares[key.data] = report.busy_share
                        selector.unregister(key.fd)
                        break
    requests.sort(key=lambda times: times.number)
    return LoadResult(
        requests=requests,
        duration_seconds=max(times.sent_seconds + times.total_seconds for times in requests),
        busy_shares=[busy_shares[number] for number in range(len(clients))],
    )
