"""Kept batches: what one may become, that lines and counters are kept together, and that its files are its own meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.unit.web_process.store.test_files import Clock, Shelf, shelf
from yeoul.config.settings import StoreSettings
from yeoul.errors import InvalidRequestError, NotFoundError, TooManyRequestsError, UnavailableError
from yeoul.web_process.store import batches as module
from yeoul.web_process.store.batches import Batch, KeptBatches


class Desk(Shelf):
    """Batches beside the files."""

    def __init__(self, opened: Shelf) -> None:
        super().__init__(opened.database, opened.clock)
        self.batches = KeptBatches(self.database, self.files, StoreSettings(max_data_bytes=4 << 20), self.clock)

    async def begin(self, tenant: str = "t") -> Batch:
        file = await self.add(b"{}", tenant)
        return await self.batches.create(
            tenant,
            endpoint="/v1/completions",
            input_file_id=file.id,
            completion_window="24h",
            window_seconds=86400,
            metadata=None,
            output_expires_after_seconds=None,
        )


def play(scene: Callable[[Desk], Awaitable[None]], clock: Clock | None = None) -> None:
    with shelf(None, clock) as opened:
        asyncio.run(scene(Desk(opened)))  # type: ignore[arg-type]


def test_lines_and_counters_are_kept_together_or_not_at_all():
    async def scene(desk: Desk) -> None:
        batch = await desk.begin()
        assert desk.batches.changed.is_set()
        batch = await desk.batches.add_answers(batch.id, [b"a\n", b"b\n"], [b"c\n"])
        assert (batch.num_completed, batch.num_failed) == (2, 1)
        assert batch.output_file_id is not None
        assert batch.error_file_id is not None
        with pytest.raises(UnavailableError):
            await desk.batches.add_answers(batch.id, [b"d\n"], [b"x" * (3 << 20)])
        assert await desk.batches.get(batch.id) == batch
        assert await desk.read(await desk.files.find("t", batch.output_file_id)) == b"a\nb\n"
        assert await desk.read(await desk.files.find("t", batch.error_file_id)) == b"c\n"

    play(scene)


def test_files_are_the_batchs_until_it_ends():
    async def scene(desk: Desk) -> None:
        batch = await desk.begin()
        batch = await desk.batches.add_answers(batch.id, [b"a\n"], [])
        for file_id in batch.file_ids:
            with pytest.raises(InvalidRequestError):
                await desk.files.delete("t", file_id)
        await desk.batches.change(batch.id, status="completed", completed_at=1)
        assert await desk.batches.unfinished() == []
        for file_id in batch.file_ids:
            await desk.files.delete("t", file_id)

    play(scene)


def test_one_that_is_cancelled_does_not_go_on():
    async def scene(desk: Desk) -> None:
        batch = await desk.begin()
        assert (await desk.batches.cancel("t", batch.id)).status == "cancelling"
        assert (await desk.batches.cancel("t", batch.id)).status == "cancelling"
        assert (await desk.batches.change(batch.id, status="in_progress")).status == "cancelling"
        assert [one.id for one in await desk.batches.unfinished()] == [batch.id]
        await desk.batches.change(batch.id, status="cancelled")
        with pytest.raises(InvalidRequestError, match="cancelled cannot be"):
            await desk.batches.cancel("t", batch.id)

    play(scene)


def test_nobody_sees_those_of_others():
    async def scene(desk: Desk) -> None:
        batch = await desk.begin()
        for method in (desk.batches.find, desk.batches.cancel):
            with pytest.raises(NotFoundError):
                await method("another", batch.id)
        assert await desk.batches.page("another") == ([], False)
        with pytest.raises(NotFoundError):
            await desk.batches.page("another", after=batch.id)

    play(scene)


def test_they_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_NUM_UNFINISHED", 2)
    monkeypatch.setattr(module, "_MAX_NUM_FINISHED", 2)

    async def scene(desk: Desk) -> None:
        made = [await desk.begin() for _ in range(2)]
        with pytest.raises(TooManyRequestsError):
            await desk.begin()
        for _ in range(3):
            for batch in made:
                await desk.batches.change(batch.id, status="failed")
            made = [await desk.begin() for _ in range(2)]
        await desk.batches.sweep()
        assert len((await desk.batches.page("t"))[0]) == 4, "two that are finished, and two that are not"

    play(scene)


def test_time_takes_those_that_ended():
    clock = Clock()

    async def scene(desk: Desk) -> None:
        done, left = await desk.begin(), await desk.begin()
        await desk.batches.change(done.id, status="failed")
        clock.seconds += 31 * 86400
        await desk.batches.sweep()
        assert [one.id for one in (await desk.batches.page("t"))[0]] == [left.id]

    play(scene, clock)
