"""Turnstile: a crowd begins a few at a time, in order, and what is no crowd does not wait."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from yeoul.web_process.http.turnstile import NUM_REQUESTS_A_TURN, Turnstile


class Recorder:
    """An application that notes who begins in which turn of the loop."""

    def __init__(self) -> None:
        self.turn = 0
        self.begun: list[tuple[int, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun.append((self.turn, scope["path"]))

    async def count_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


async def never() -> None:
    raise AssertionError("nobody asks for this")


def arrive(turnstile: Turnstile, path: str, method: str = "POST") -> asyncio.Task[None]:
    scope = {"type": "http", "method": method, "path": path}
    return asyncio.ensure_future(turnstile(scope, never, never))  # type: ignore[arg-type]


def test_a_crowd_begins_a_few_at_a_time_in_its_order():
    async def play() -> None:
        recorder = Recorder()
        turnstile = Turnstile(recorder)
        counting = asyncio.ensure_future(recorder.count_turns())
        paths = [str(number) for number in range(10 * NUM_REQUESTS_A_TURN)]
        await asyncio.gather(*(arrive(turnstile, path) for path in paths))
        counting.cancel()
        assert [path for _, path in recorder.begun] == paths
        turns = [turn for turn, _ in recorder.begun]
        assert max(map(turns.count, turns)) <= NUM_REQUESTS_A_TURN

    asyncio.run(play())


def test_health_does_not_wait_behind_a_crowd():
    async def play() -> None:
        recorder = Recorder()
        turnstile = Turnstile(recorder)
        crowd = [arrive(turnstile, "crowd") for _ in range(100)]
        await arrive(turnstile, "/health", "GET")
        assert len(recorder.begun) <= 2 * NUM_REQUESTS_A_TURN + 1
        await asyncio.gather(*crowd)

    asyncio.run(play())


def test_one_who_gave_up_takes_nobodys_turn():
    async def play() -> None:
        recorder = Recorder()
        turnstile = Turnstile(recorder)
        crowd = [arrive(turnstile, str(number)) for number in range(3 * NUM_REQUESTS_A_TURN)]
        await asyncio.sleep(0)
        crowd[NUM_REQUESTS_A_TURN].cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        assert len(recorder.begun) == len(crowd) - 1
        await arrive(turnstile, "last")
        assert recorder.begun[-1][1] == "last"

    asyncio.run(play())
