"""One client of a benchmark, a process of its own, so that neither a progress bar nor another client delays its clock.

Sends its part of the requests and reports the times of each; knows nothing of the others. Started by ``clients``.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Iterator

import msgspec
import uvloop

from yeoul.cli.benchmark.answer_clock import AnswerClock
from yeoul.cli.benchmark.connection import ConnectionPool, SilenceError
from yeoul.cli.benchmark.http_response import BadResponseError
from yeoul.cli.benchmark.plan import (
    MAX_PIECE_BYTES,
    START_TIME,
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
    client = LoadClient(start, child)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(client.run())
    return 0


def encode_request(plan: LoadPlan, request: PlannedRequest, path: str, authority: str) -> bytes:
    """The whole HTTP request."""
    body = {"model": plan.model, "max_tokens": request.max_tokens, "temperature": plan.temperature, "stream": plan.streams}
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
    """Sends what ``start`` holds. A lane of a closed load sends its next request when its last has ended."""

    def __init__(self, start: ClientStart, child: ChildSide) -> None:
        self._start, self._plan, self._child = start, start.plan, child
        self._number = int(child.role.rpartition("_")[2])
        self._pool = ConnectionPool(start.plan.url, start.plan.timeout_seconds)
        self._bodies = {request.number: self._encode(request) for request in start.requests}
        self._load_start = 0.0

    async def run(self) -> None:
        """Warms up, waits for the start, sends all, and says how busy it was."""
        await self._warm_up()
        self._report(ClientReady(client=self._number))
        gc.freeze()
        gc.disable()  # a collection would stop the clock, and this process does not live long
        self._load_start = START_TIME.unpack(os.read(self._start.go_fd, START_TIME.size))[0]
        await _sleep_until(self._load_start)
        cpu_seconds, waiting = time.process_time(), iter(self._start.requests)
        async with asyncio.TaskGroup() as group:
            if self._plan.request_rate is None:
                for _ in range(self._start.max_concurrency):
                    group.create_task(self._send_next_until_none_is_left(waiting))
            else:
                await self._send_when_due(group)
        busy = (time.process_time() - cpu_seconds) / max(time.perf_counter() - self._load_start, 1e-9)
        self._pool.close()
        self._report(ClientEnd(client=self._number, busy_share=busy))

    async def _warm_up(self) -> None:
        waiting = iter(self._start.warmups)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._start.max_concurrency, len(self._start.warmups))):
                group.create_task(self._warm_lane(waiting))

    async def _warm_lane(self, waiting: Iterator[PlannedRequest]) -> None:
        for request in waiting:
            await self._time_one(request, self._encode(request))

    async def _send_next_until_none_is_left(self, waiting: Iterator[PlannedRequest]) -> None:
        for request in waiting:
            await self._send(request)

    async def _send_when_due(self, group: asyncio.TaskGroup) -> None:
        lanes = asyncio.Semaphore(self._start.max_concurrency)

        async def send_in_a_lane(request: PlannedRequest) -> None:
            async with lanes:
                await self._send(request)

        for request in self._start.requests:
            assert request.planned_seconds is not None
            await _sleep_until(self._load_start + request.planned_seconds)
            group.create_task(send_in_a_lane(request))

    async def _send(self, request: PlannedRequest) -> None:
        self._report(await self._time_one(request, self._bodies.pop(request.number)))

    async def _time_one(self, request: PlannedRequest, data: bytes) -> RequestTimes:
        start = time.perf_counter()
        times = RequestTimes(
            number=request.number,
            client=self._number,
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
        except (OSError, BadResponseError, SilenceError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            times.error = times.error or " ".join(f"{type(error).__name__}: {error}".split())
        times.total_seconds = time.perf_counter() - start
        return times

    def _encode(self, request: PlannedRequest) -> bytes:
        return encode_request(self._plan, request, self._pool.path, self._pool.authority)

    def _report(self, report: ClientReport) -> None:
        data = msgspec.msgpack.encode(report)
        pieces = [data[place : place + MAX_PIECE_BYTES] for place in range(0, len(data), MAX_PIECE_BYTES)]
        for piece in pieces[:-1]:
            self._child.report(b"\x01" + piece)
        self._child.report(b"\x00" + pieces[-1])


async def _sleep_until(moment: float) -> None:
    while (rest := moment - time.perf_counter()) > 0:  # noqa: ASYNC110 - a loop's timer may end a millisecond early
        await asyncio.sleep(rest)
