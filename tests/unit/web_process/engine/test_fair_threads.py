"""Tenants have the threads in turns, and nobody's leaving loses one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from tests.unit.web_process.fake_engine_client import until
from yeoul.errors import UnavailableError
from yeoul.web_process.engine.fair_threads import FairThreads


class Bench:
    """Work that waits until the test lets it go on; ``begun`` names it in the order in which threads took it."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._gates: dict[str, threading.Event] = {}

    def work(self, name: str) -> Callable[[], str]:
        gate = self._gates[name] = threading.Event()

        def run() -> str:
            self.begun.append(name)
            assert gate.wait(10)
            return name

        return run

    def finish(self, *names: str) -> None:
        for name in names:
            self._gates[name].set()

    async def until_begun(self, num: int) -> None:
        await until(lambda: len(self.begun) >= num)


def test_a_tenant_with_much_work_lets_another_have_its_turn():
    async def play() -> list[str]:
        bench, threads = Bench(), FairThreads(1, "test")
        names = ["flood 0", "flood 1", "flood 2", "flood 3", "other 0", "other 1"]
        tasks = [asyncio.create_task(threads.run(name.split()[0], bench.work(name))) for name in names]
        for num in range(1, len(names) + 1):
            await bench.until_begun(num)
            bench.finish(bench.begun[-1])
        assert await asyncio.gather(*tasks) == names
        threads.close()
        return bench.begun

    assert asyncio.run(play()) == ["flood 0", "flood 1", "other 0", "flood 2", "other 1", "flood 3"]


def test_work_that_fails_fails_for_its_caller_and_frees_its_thread():
    async def play() -> int:
        threads = FairThreads(1, "test")
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await threads.run("", lambda: 1 // 0)
        value = await threads.run("", lambda: 7)
        threads.close()
        return value

    assert asyncio.run(play()) == 7


def test_who_leaves_while_waiting_or_while_being_served_costs_no_thread():
    async def play() -> None:
        bench, threads = Bench(), FairThreads(2, "test")
        served = [asyncio.create_task(threads.run("a", bench.work(f"served {index}"))) for index in range(2)]
        waiting = [asyncio.create_task(threads.run("a", bench.work(f"waiting {index}"))) for index in range(3)]
        await bench.until_begun(2)
        served[0].cancel()
        waiting[0].cancel()
        await asyncio.gather(served[0], waiting[0], return_exceptions=True)
        assert len(bench.begun) == 2  # the thread is still at the work of the one who left
        bench.finish("served 0", "waiting 1", "waiting 2")
        assert await asyncio.gather(*waiting[1:]) == ["waiting 1", "waiting 2"]
        bench.finish("served 1")
        assert await served[1] == "served 1"
        both = [asyncio.create_task(threads.run("a", bench.work(f"both {index}"))) for index in range(2)]
        await bench.until_begun(6)  # two threads at the same time: none was lost
        bench.finish("both 0", "both 1")
        await asyncio.gather(*both)
        threads.close()

    asyncio.run(play())


def test_who_leaves_in_the_moment_of_its_turn_passes_it_on(monkeypatch):
    async def play() -> str:
        bench, threads = Bench(), FairThreads(1, "test")
        first = asyncio.create_task(threads.run("a", bench.work("first")))
        leaver = asyncio.create_task(threads.run("a", bench.work("leaver")))
        heir = asyncio.create_task(threads.run("a", lambda: "heir"))
        await bench.until_begun(1)
        pass_on = threads._pass_on

        def pass_on_to_one_who_leaves() -> None:
            pass_on()
            leaver.cancel()

        monkeypatch.setattr(threads, "_pass_on", pass_on_to_one_who_leaves)
        bench.finish("first")
        await first
        result = await heir
        assert bench.begun == ["first"]
        threads.close()
        return result

    assert asyncio.run(play()) == "heir"


def test_who_waits_for_a_thread_when_they_end_is_told_to_send_again():
    async def play() -> None:
        bench, threads = Bench(), FairThreads(1, "test")
        begun = asyncio.create_task(threads.run("", bench.work("begun")))
        waiting = asyncio.create_task(threads.run("", bench.work("waiting")))
        await bench.until_begun(1)
        threads.close()
        bench.finish("begun")
        assert await begun == "begun"
        with pytest.raises(UnavailableError, match="send it again"):
            await waiting
        with pytest.raises(UnavailableError, match="send it again"):
            await threads.run("", lambda: "late")

    asyncio.run(play())
