"""Kept files: what is there after any end, who may see it, what makes room, and that a batch's files stay while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from yeoul.config.settings import StoreSettings
from yeoul.errors import InvalidRequestError, NotFoundError, UnavailableError
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.files import KeptFiles, StoredFile
from yeoul.web_process.store.tables import TABLES

MIB = 1 << 20
DAY = 86400


class Clock:
    """Stands until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


class Shelf:
    """Kept files of at most two MiB, in a folder or in memory."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.files = KeptFiles(database, StoreSettings(max_data_bytes=4 * MIB), clock)

    async def add(self, content: bytes, tenant: str = "t", *, expires_after_seconds: int | None = None) -> StoredFile:
        with self.files.receive() as incoming:
            incoming.write(content)
            return await incoming.keep(tenant, "name", "batch", expires_after_seconds)

    async def read(self, file: StoredFile) -> bytes:
        found = await self.files.find(file.tenant, file.id)
        return b"".join([content async for content in self.files.read(found)])

    async def ids(self, tenant: str = "t") -> list[str]:
        return [file.id for file in (await self.files.page(tenant, order="asc"))[0]]


@contextlib.contextmanager
def shelf(folder: Path | None, clock: Clock | None = None) -> Iterator[Shelf]:
    with Database(None if folder is None else str(folder), TABLES) as database:
        yield Shelf(database, clock or Clock())


def play(scene: Callable[[Shelf], Awaitable[None]], folder: Path | None = None, clock: Clock | None = None) -> None:
    with shelf(folder, clock) as opened:
        asyncio.run(scene(opened))  # type: ignore[arg-type]


@pytest.mark.parametrize("is_kept", [True, False])
def test_what_is_kept_is_read_by_its_tenant_alone_until_it_is_deleted(tmp_path, is_kept):
    async def scene(opened: Shelf) -> None:
        file = await opened.add(b"x" * 700_000)
        assert await opened.read(file) == b"x" * 700_000
        with pytest.raises(NotFoundError):
            await opened.files.find("another", file.id)
        with pytest.raises(NotFoundError):
            await opened.files.delete("another", file.id)
        await opened.files.delete("t", file.id)
        assert await opened.ids() == []
        with pytest.raises(UnavailableError):
            _ = [content async for content in opened.files.read(file)]

    play(scene, tmp_path if is_kept else None)


def test_what_is_given_up_leaves_nothing(tmp_path):
    async def scene(opened: Shelf) -> None:
        with opened.files.receive() as incoming:
            incoming.write(b"x" * 100)
        assert os.listdir(tmp_path / "files") == []
        for _ in range(30):
            with opened.files.receive() as incoming:
                incoming.write(b"x" * MIB)
        with opened.files.receive() as one, opened.files.receive() as another:
            one.write(b"x" * MIB)
            another.write(b"x" * MIB)
            with pytest.raises(UnavailableError, match="being received"):
                another.write(b"x")

    play(scene, tmp_path)


def test_the_oldest_make_room_but_not_those_that_a_batch_uses(tmp_path):
    async def scene(opened: Shelf) -> None:
        used, old, new = [await opened.add(b"x" * 600_000) for _ in range(3)]
        await opened.database.run(lambda connection: opened.files.use(connection, used.id, begins=True))
        last = await opened.add(b"x" * 600_000)
        assert await opened.ids() == [used.id, new.id, last.id]
        assert old.id not in os.listdir(tmp_path / "files")
        for one in (new, last):
            await opened.database.run(lambda connection: opened.files.use(connection, one.id, begins=True))  # noqa: B023
        with pytest.raises(UnavailableError, match="--max-data-bytes"):
            await opened.add(b"x" * 600_000)
        assert await opened.ids() == [used.id, new.id, last.id], "nothing is deleted where that would not be enough"
        with pytest.raises(InvalidRequestError):
            await opened.files.delete("t", used.id)
        await opened.database.run(lambda connection: opened.files.use(connection, used.id, begins=False))
        await opened.files.delete("t", used.id)

    play(scene, tmp_path)


def test_nobodys_files_are_pushed_out_by_anothers(tmp_path):
    async def scene(opened: Shelf) -> None:
        theirs = await opened.add(b"x" * 600_000, "quiet")
        mine = [await opened.add(b"x" * 600_000, "loud") for _ in range(6)]
        assert await opened.ids("quiet") == [theirs.id]
        assert await opened.ids("loud") == [file.id for file in mine[-2:]]
        await opened.add(b"x" * 1_400_000, "quiet")
        assert await opened.ids("loud") == [mine[-1].id], "who keeps most makes room, also for others"
        assert len(await opened.ids("quiet")) == 1

    play(scene, tmp_path)


def test_time_takes_them_when_they_say_so_and_at_the_latest_after_the_servers_days(tmp_path):
    clock = Clock()

    async def scene(opened: Shelf) -> None:
        soon = await opened.add(b"x", expires_after_seconds=3600)
        late = await opened.add(b"x", expires_after_seconds=90 * DAY)
        assert late.expires_at == clock() + 30 * DAY
        clock.seconds += 3600
        assert await opened.ids() == [late.id]
        with pytest.raises(NotFoundError):
            await opened.files.find("t", soon.id)
        await opened.files.sweep()
        assert os.listdir(tmp_path / "files") == [late.id]

    play(scene, tmp_path, clock)


def test_a_start_puts_right_what_a_kill_left(tmp_path):
    async def fill(opened: Shelf) -> None:
        for _ in range(2):
            await opened.add(b"kept")

    play(fill, tmp_path)
    kept, lost = sorted(os.listdir(tmp_path / "files"))
    os.unlink(tmp_path / "files" / lost)
    (tmp_path / "files" / "file-half.part").write_bytes(b"half")
    (tmp_path / "files" / "file-without-a-row").write_bytes(b"whole")

    async def scene(opened: Shelf) -> None:
        await opened.files.sweep_leftovers()
        assert await opened.ids() == [kept]
        assert os.listdir(tmp_path / "files") == [kept]

    play(scene, tmp_path)


def test_what_is_appended_and_not_noted_is_written_over(tmp_path):
    async def scene(opened: Shelf) -> None:
        files, run = opened.files, opened.database.run
        file_id = await run(lambda connection: files.add_empty(connection, "t", "out", "batch_output", None))
        await run(lambda connection: files.append(connection, file_id, b"one\n"))

        def fails(connection: sqlite3.Connection) -> None:
            files.append(connection, file_id, b"two, which is long\n")
            raise KeyError

        with pytest.raises(KeyError):
            await run(fails)
        assert await opened.read(await files.find("t", file_id)) == b"one\n"
        await run(lambda connection: files.append(connection, file_id, b"2\n"))
        assert (tmp_path / "files" / file_id).read_bytes() == b"one\n2\n"

    play(scene, tmp_path)
