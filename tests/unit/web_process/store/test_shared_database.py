"""One file for several web processes: all see what each has written, nobody starves, and limits are of all together."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.patience import until
from tests.unit.web_process.fake_siblings import FakeSiblings
from yeoul.config.settings import StoreSettings
from yeoul.errors import ConfigError
from yeoul.web_process.store.database import Database, hold_folder
from yeoul.web_process.store.file_contents import FileContents
from yeoul.web_process.store.files import KeptFiles
from yeoul.web_process.store.request_history import EndedRequest, RequestHistory
from yeoul.web_process.store.tables import TABLES

TABLE = "CREATE TABLE IF NOT EXISTS things (writer INTEGER, number INTEGER)"
WRITER = """
import asyncio, sys
from tests.unit.web_process.fake_siblings import FakeSiblings
from tests.unit.web_process.store.test_shared_database import TABLE, put
from yeoul.web_process.store.database import Database
folder, data_dir, index, most = sys.argv[1], sys.argv[2] or None, int(sys.argv[3]), int(sys.argv[4])
with Database(data_dir, [TABLE], FakeSiblings(index, folder)) as database:
    for number in range(most):
        asyncio.run(database.run(put(index, number)))
        if number == 0:
            print("writes", flush=True)
"""


def put(writer: int, number: int):
    return lambda connection: connection.execute("INSERT INTO things VALUES (?, ?)", (writer, number)).rowcount


def rows(connection) -> list[tuple[int, int]]:
    return list(connection.execute("SELECT writer, number FROM things ORDER BY rowid"))


@contextmanager
def writer(folder: str, index: int, most: int, data_dir: str | None = None) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WRITER, folder, data_dir or "", str(index), str(most)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "writes\n"
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("is_kept", [True, False])
def test_what_one_web_process_writes_the_others_read_and_it_lasts_where_there_is_a_folder_for_it(tmp_path, is_kept):
    data_dir = str(tmp_path / "data") if is_kept else None
    private = tmp_path / "private"
    private.mkdir()
    siblings = [FakeSiblings(index, str(private)) for index in range(2)]
    with (
        hold_folder(data_dir) if data_dir is not None else nullcontext(),
        Database(data_dir, [TABLE], siblings[0]) as one,
        Database(data_dir, [TABLE], siblings[1]) as other,
    ):
        asyncio.run(one.run(put(0, 1)))
        assert asyncio.run(other.run(rows)) == [(0, 1)]
        assert one.lasts is is_kept
        assert one.folder == other.folder == (data_dir or str(private))


def test_who_writes_all_the_time_lets_those_before_it_who_wait(tmp_path):
    siblings = [FakeSiblings(index, str(tmp_path)) for index in range(2)]
    with Database(None, [TABLE], siblings[0]) as one, Database(None, [TABLE], siblings[1]) as other:

        def put_while_another_waits(connection):
            assert until(lambda: is_locked(tmp_path / "queue"), 10.0)
            return put(0, 0)(connection)

        async def scene() -> list[tuple[int, int]]:
            first = asyncio.create_task(one.run(put_while_another_waits))
            again = asyncio.create_task(one.run(put(0, 1)))  # asks as soon as the first is done
            await asyncio.to_thread(until, lambda: is_locked(tmp_path / "turn"), 10.0)
            await asyncio.gather(first, again, other.run(put(1, 0)))
            return await one.run(rows)

        assert asyncio.run(scene()) == [(0, 0), (1, 0), (0, 1)]


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_a_web_process_that_is_killed_while_it_writes_keeps_nobody_from_writing(tmp_path):
    with Database(None, [TABLE], FakeSiblings(0, str(tmp_path))) as database:
        for _ in range(3):
            with writer(str(tmp_path), 1, 1 << 30) as busy:
                busy.send_signal(signal.SIGKILL)
                busy.wait()
            asyncio.run(database.run(put(0, 0)))
        assert [index for index, _ in asyncio.run(database.run(rows))].count(0) == 3


def test_the_folder_is_held_by_who_starts_them_and_no_other_server_has_it(tmp_path):
    data_dir, private = str(tmp_path / "data"), str(tmp_path)
    with (
        hold_folder(data_dir),
        Database(data_dir, [TABLE], FakeSiblings(0, private)),
        Database(data_dir, [TABLE], FakeSiblings(1, private)),
        pytest.raises(ConfigError, match="another server uses"),
    ):
        Database(data_dir, [TABLE])
    Database(data_dir, [TABLE]).close()


def test_the_bytes_of_the_history_are_counted_over_all_of_them(tmp_path):
    settings = StoreSettings(max_data_bytes=1 << 20)

    def ended(number: int) -> EndedRequest:
        return EndedRequest(f"r~{number}", "r", "me", time.time(), "finished", b"", os.urandom(1000), 0.0)

    async def scene(databases: list[Database]) -> None:
        histories = [RequestHistory(database, settings) for database in databases]
        for number in range(200):
            await histories[number % 2].add(lambda: [ended(number)])  # noqa: B023
        kept = await databases[0].run(lambda connection: connection.execute("SELECT num_bytes FROM requests").fetchall())
        assert 0 < sum(size for (size,) in kept) <= settings.max_bytes_of_history
        counted = await databases[1].run(lambda connection: connection.execute("SELECT * FROM request_bytes").fetchone())
        assert counted == (sum(size for (size,) in kept),)

    with (
        Database(None, TABLES, FakeSiblings(0, str(tmp_path))) as one,
        Database(None, TABLES, FakeSiblings(1, str(tmp_path))) as other,
    ):
        asyncio.run(scene([one, other]))


def test_a_file_of_one_is_read_by_another_and_what_one_still_receives_is_not_swept(tmp_path):
    settings = StoreSettings()

    async def scene(databases: list[Database]) -> None:
        one, other = (KeptFiles(database, settings) for database in databases)
        with one.receive() as incoming:
            incoming.write(b"first ")
            await other.sweep_leftovers()
            incoming.write(b"second")
            kept = await incoming.keep("me", "a.txt", "user_data")
        found = await other.find("me", kept.id)
        assert b"".join([piece async for piece in other.read(found)]) == b"first second"

    with (
        Database(None, TABLES, FakeSiblings(0, str(tmp_path))) as first,
        Database(None, TABLES, FakeSiblings(1, str(tmp_path))) as second,
    ):
        asyncio.run(scene([first, second]))


def test_what_a_dead_process_was_receiving_is_swept(tmp_path):
    contents = FileContents(str(tmp_path))
    (tmp_path / "file-1.part").write_bytes(b"left")
    living = contents.create("file-2")
    contents.sweep([])
    assert os.listdir(tmp_path) == ["file-2.part"]
    living.drop()
