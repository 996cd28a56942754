"""One client of a benchmark, a process of its own, so that neither a progress bar nor another client delays its clock.

Sends its part of the requests and reports the times of each; knows nothing of the others. Started by ``clients``.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Sequence

import msgspec
import uvloop

from yeoul.cli.benchmark.answer_clock import AnswerClock
from yeoul.cli.benchmark.connection import ConnectionPool
from yeoul.cli.benchmark.http_response import BadResponseError
from yeoul.cli.benchmark.plan import (
    MAX_PIECE_BYTES,
    ClientEnd,
    ClientReady,
    ClientReport,
    ClientStart,
    LoadPlan,
    PlannedRequest,
    RequestTimes,
)
from yeoul.cli.server_address import authorization
from yeoul.transport.child_process import ChildSide, enter_child


def main() -> int:
    """The body of the process."""
    child = enter_child(thread_name="BenchClient")
    start = msgspec.msgpack.decode(child.arguments, type=ClientStart)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(LoadClient(start, child).run())
    return 0


def encode_request(plan: LoadPlan, request: PlannedRequest, path: str, authority: str) -> bytes:
    """The whole HTTP request."""
    body = {"model": plan.model, "max_tokens": plan.output_len, "temperature": plan.temperature, "stream": plan.streams}
    if plan.is_chat:
        body["messages"] = [{"role": "user", "content": request.prompt}]
    else:
        body["prompt"] = request.prompt
    if plan.streams:
        body["stream_options"] = {"include_usage": True}
    if plan.ignore_eos:
        body["ignore_eos"] = True
    data = msgspec.json.encode(body | plan.extra_body)
    route = "/v1/chat/completions" if plan.is_chat else "/v1/completions"
    lines = [
        f"POST {path}{route} HTTP/1.1",
        f"host: {authority}",
        "content-type: application/json",
        f"content-length: {len(data)}",
        *(f"{name}: {value}" for name, value in authorization(plan.api_key).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + data


class LoadClient:
    """Sends what ``start`` holds, as many requests at a time as it has lanes."""

    def __init__(self, start: ClientStart, child: ChildSide) -> None:
        self._start, self._plan, self._child = start, start.plan, child
        self._pool = ConnectionPool(start.plan.url, start.plan.timeout_seconds)
        self._load_start = 0.0

    async def run(self) -> None:
        """Warms up, waits for the start, sends all, and says how busy it was."""
        await self._send_all(self._start.warmups)
        self._report(ClientReady())
        gc.freeze()
        gc.disable()  # a collection would stop the clock, and this process does not live long
        os.read(self._start.go_fd, 1)
        self._load_start, cpu_seconds = time.perf_counter(), time.process_time()
        await self._send_all(self._start.requests, self._report)
        busy = (time.process_time() - cpu_seconds) / max(time.perf_counter() - self._load_start, 1e-9)
        self._pool.close()
        self._report(ClientEnd(busy_share=busy))

    async def _send_all(
        self, requests: Sequence[PlannedRequest], on_done: Callable[[RequestTimes], None] = lambda _: None
    ) -> None:
        """Each lane sends the next request when its last has ended, and not before it is due."""
        waiting = iter(requests)

        async def send_until_none_is_left() -> None:
            for request in waiting:
                if request.planned_seconds is not None:
                    await _sleep_until(self._load_start + request.planned_seconds)
                on_done(await self._time_one(request))

        async with asyncio.TaskGroup() as lanes:
            for _ in range(min(self._start.max_concurrency, len(requests))):
                lanes.create_task(send_until_none_is_left())

    async def _time_one(self, request: PlannedRequest) -> RequestTimes:
        data = encode_request(self._plan, request, self._pool.path, self._pool.authority)
        start = time.perf_counter()
        times = RequestTimes(
            number=request.number,
            planned_seconds=request.planned_seconds,
            sent_seconds=start - self._load_start,
            arrival_microseconds=[],
            arrival_events=[],
        )
        clock = AnswerClock(times, start, streams=self._plan.streams)
        try:
            await self._pool.exchange(data, clock.feed)
            clock.end()
        # TimeoutError is an OSError; the last three are of bodies that are no JSON.
        except (OSError, BadResponseError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            times.error = times.error or " ".join(f"{type(error).__name__}: {error}".split())
        times.total_seconds = time.perf_counter() - start
        return times

    def _report(self, report: ClientReport) -> None:
        data = msgspec.msgpack.encode(report)
        for place in range(0, len(data), MAX_PIECE_BYTES):
            has_more = place + MAX_PIECE_BYTES < len(data)
            self._child.report(bytes([has_more]) + data[place : place + MAX_PIECE_BYTES])


async def _sleep_until(moment: float) -> None:
    while (rest := moment - time.perf_counter()) > 0:  # noqa: ASYNC110 - a loop's timer may end a millisecond early
        await asyncio.sleep(rest)
