"""One batch to its end where something gets in between: nothing is answered twice, and no place is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.web_process.fake_engine_client import until
from tests.unit.web_process.store.test_batches import Desk
from tests.unit.web_process.store.test_files import shelf
from yeoul.config.settings import ServerSettings
from yeoul.errors import UnavailableError
from yeoul.web_process.batches.batch_lines import AnsweredLine, BatchLine, write_response
from yeoul.web_process.batches.batch_run import BatchRun
from yeoul.web_process.batches.line_answers import LineAnswers
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.store.batches import Batch

NUM_PLACES = 4


class Bench(Desk):
    """A batch of some lines, and what runs it."""

    async def prepare(self, num_lines: int) -> tuple[Batch, BatchRun, asyncio.Semaphore]:
        one = {"method": "POST", "url": "/v1/completions", "body": {}}
        content = "".join(json.dumps({"custom_id": str(number), **one}) + "\n" for number in range(num_lines))
        file = await self.add(content.encode())
        batch = await self.batches.create(
            "t",
            endpoint="/v1/completions",
            input_file_id=file.id,
            completion_window="24h",
            window_seconds=86400,
            metadata=None,
            output_expires_after_seconds=None,
        )
        settings = SimpleNamespace(server=ServerSettings())
        context: Any = SimpleNamespace(batches=self.batches, files=self.files, settings=settings)
        places = asyncio.Semaphore(NUM_PLACES)
        self.turn, self.others = asyncio.Lock(), asyncio.Semaphore(NUM_PLACES)
        return batch, BatchRun(context, batch, self.turn, places, self.others), places

    async def custom_ids(self, file_id: str | None) -> list[str]:
        if file_id is None:
            return []
        lines = (await self.read(await self.files.find("t", file_id))).splitlines()
        return [json.loads(line)["custom_id"] for line in lines]


@pytest.fixture
def play(monkeypatch):
    """Plays a scene; the longer a line's id, the later is its answer."""

    async def answer(self: LineAnswers, line: BatchLine) -> AnsweredLine:
        for _ in range(len(line.custom_id)):
            await asyncio.to_thread(int)
        return write_response(line, "b", 200, "r", b"{}")

    monkeypatch.setattr(LineAnswers, "answer", answer)

    def run(scene: Callable[[Bench], Awaitable[None]]) -> None:
        with shelf(None) as opened:
            asyncio.run(scene(Bench(opened)))  # type: ignore[arg-type]

    return run


def test_a_full_disk_costs_no_place(play, monkeypatch):
    async def scene(bench: Bench) -> None:
        batch, run, places = await bench.prepare(50)

        async def fail(*_: object) -> Batch:
            raise UnavailableError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(bench.batches, "add_answers", fail)
            with pytest.raises(UnavailableError):
                await run.run()
        await asyncio.sleep(0)
        assert places._value == NUM_PLACES
        await run.run()
        batch = await bench.batches.get(batch.id)
        assert (batch.status, batch.num_completed) == ("completed", 50)
        assert sorted(await bench.custom_ids(batch.output_file_id), key=int) == [str(number) for number in range(50)]

    play(scene)


def test_what_is_kept_at_the_very_end_of_the_window_has_not_expired(play, monkeypatch):
    async def scene(bench: Bench) -> None:
        batch, run, _ = await bench.prepare(1)
        add_answers = bench.batches.add_answers

        async def keep_and_tell_nobody(*arguments: Any) -> None:
            monkeypatch.setattr(bench.batches, "add_answers", add_answers)
            await add_answers(*arguments)
            await asyncio.Event().wait()

        times = iter([batch.expires_at - 0.05])
        monkeypatch.setattr(bench.batches, "add_answers", keep_and_tell_nobody)
        monkeypatch.setattr(bench.batches, "now", lambda: next(times, batch.expires_at))
        await run.run()
        batch = await bench.batches.get(batch.id)
        assert (batch.status, batch.num_completed, batch.num_failed) == ("expired", 1, 0)
        assert (await bench.custom_ids(batch.output_file_id), await bench.custom_ids(batch.error_file_id)) == (["0"], [])

    play(scene)


def test_without_gaps_a_batch_is_answered_within_its_window(play, monkeypatch):
    """The clock is moved on; nobody leaves a gap, and another batch of the key has its turn."""

    async def answer(self: LineAnswers, line: BatchLine) -> AnsweredLine:
        terms = self._make_terms(SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
        if terms.in_gaps:
            await asyncio.Event().wait()
        assert terms.tenant == "batches of t"
        return write_response(line, "b", 200, "r", b"{}")

    async def scene(bench: Bench) -> None:
        monkeypatch.setattr(LineAnswers, "answer", answer)
        batch, run, places = await bench.prepare(20)
        monkeypatch.setattr(run._context, "terms", lambda caller, *_: ServiceTerms(tenant=caller.tenant), raising=False)
        await bench.turn.acquire()
        monkeypatch.setattr(bench.batches, "now", lambda: batch.created_at + 10)
        await run._check()
        monkeypatch.setattr(bench.batches, "now", lambda: batch.created_at + int(0.91 * 86400))
        await run.run()
        batch = await bench.batches.get(batch.id)
        assert (batch.status, batch.num_completed) == ("completed", 20)
        await asyncio.sleep(0)
        assert (places._value, bench.others._value) == (NUM_PLACES, NUM_PLACES)

    play(scene)


def test_a_batch_whose_turn_has_not_come_has_nothing_in_the_engine_but_what_is_due(play, monkeypatch):
    begun: list[bool] = []

    async def answer(self: LineAnswers, line: BatchLine) -> AnsweredLine:
        terms = self._make_terms(SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
        begun.append(terms.in_gaps)
        if not terms.in_gaps:
            await asyncio.Event().wait()
        return write_response(line, "b", 200, "r", b"{}")

    async def scene(bench: Bench) -> None:
        monkeypatch.setattr(LineAnswers, "answer", answer)
        batch, run, places = await bench.prepare(20)
        monkeypatch.setattr(run._context, "terms", lambda caller, *_: ServiceTerms(tenant=caller.tenant), raising=False)
        await bench.turn.acquire()
        await run._check()
        monkeypatch.setattr(bench.batches, "now", lambda: batch.created_at + int(0.91 * 86400))
        running = asyncio.create_task(run.run())
        await until(lambda: bench.others.locked())
        assert begun == [False] * NUM_PLACES
        assert places._value == NUM_PLACES
        bench.turn.release()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.sleep(0)
        assert (bench.others._value, bench.turn.locked()) == (NUM_PLACES, False)

    play(scene)


def test_a_batch_whose_turn_comes_fills_gaps(play, monkeypatch):
    begun: list[bool] = []

    async def answer(self: LineAnswers, line: BatchLine) -> AnsweredLine:
        begun.append(self._make_terms(SimpleNamespace(), SimpleNamespace()).in_gaps)  # type: ignore[arg-type]
        return write_response(line, "b", 200, "r", b"{}")

    async def scene(bench: Bench) -> None:
        monkeypatch.setattr(LineAnswers, "answer", answer)
        batch, run, places = await bench.prepare(20)
        monkeypatch.setattr(run._context, "terms", lambda caller, *_: ServiceTerms(tenant=caller.tenant), raising=False)
        await bench.turn.acquire()
        running = asyncio.create_task(run.run())
        await until(lambda: bool(bench.turn._waiters))
        assert begun == []
        bench.turn.release()
        await running
        batch = await bench.batches.get(batch.id)
        assert (batch.status, batch.num_completed, begun) == ("completed", 20, [True] * 20)
        assert (places._value, bench.turn.locked()) == (NUM_PLACES, False)

    play(scene)
