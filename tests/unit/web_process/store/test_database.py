"""What is kept: written whole or not at all, by one server at a time, still there after a kill; and what cannot be used."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from yeoul.errors import ConfigError, UnavailableError
from yeoul.web_process.store.database import Database

TABLE = "CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY, size INTEGER)"


def put(*things: tuple[str, int]):
    return lambda connection: connection.executemany("INSERT INTO things VALUES (?, ?)", things).rowcount


def names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM things ORDER BY name")]


@pytest.mark.parametrize("is_kept", [True, False])
def test_what_was_written_is_read_and_another_start_finds_what_lies_in_a_folder(tmp_path, is_kept):
    folder = str(tmp_path / "new" / "folder") if is_kept else None
    with Database(folder, [TABLE]) as database:
        assert asyncio.run(database.run(put(("a", 1), ("b", 2)))) == 2
        assert asyncio.run(database.run(names)) == ["a", "b"]
    with Database(folder, [TABLE]) as database:
        assert asyncio.run(database.run(names)) == (["a", "b"] if is_kept else [])
    if folder is not None:
        assert os.stat(folder).st_mode & 0o077 == 0


def test_work_that_fails_leaves_nothing_behind():
    def broken(connection: sqlite3.Connection) -> None:
        put(("c", 3))(connection)
        raise ValueError("injected")

    with Database(None, [TABLE]) as database:
        asyncio.run(database.run(put(("a", 1))))
        with pytest.raises(ValueError, match="injected"):
            asyncio.run(database.run(broken))
        with pytest.raises(sqlite3.IntegrityError):
            asyncio.run(database.run(put(("b", 1), ("a", 2))))
        assert asyncio.run(database.run(names)) == ["a"]


def test_a_disk_that_is_full_is_told_to_the_client_and_the_next_one_fares_better():
    with Database(None, [TABLE]) as database:
        asyncio.run(database.run(lambda connection: connection.execute("PRAGMA max_page_count = 4").fetchone()))
        with pytest.raises(UnavailableError, match=r"cannot be read or written: .*full"):
            asyncio.run(database.run(put(*((f"name {number}" * 100, number) for number in range(1000)))))
        asyncio.run(database.run(put(("a", 1))))
        assert asyncio.run(database.run(names)) == ["a"]


def test_a_folder_has_one_server(tmp_path):
    with Database(str(tmp_path), [TABLE]), pytest.raises(ConfigError, match="another server uses"):
        Database(str(tmp_path), [TABLE])
    Database(str(tmp_path), [TABLE]).close()


def test_a_folder_that_cannot_be_used_is_said_before_anything_starts(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--data-dir: .* cannot be used: Not a directory"):
        Database(str(tmp_path / "file" / "below"), [TABLE])
    (tmp_path / "yeoul.sqlite3").write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match="not a database; move it away"):
        Database(str(tmp_path), [TABLE])


def test_a_file_of_a_later_version_is_not_touched(tmp_path):
    Database(str(tmp_path), [TABLE]).close()
    with sqlite3.connect(tmp_path / "yeoul.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigError, match="written by a later version"):
        Database(str(tmp_path), [TABLE])


def test_a_process_that_is_killed_loses_nothing_that_was_written(tmp_path):
    script = f"""
import asyncio, os, signal
from yeoul.web_process.store.database import Database
database = Database({str(tmp_path)!r}, [{TABLE!r}])
asyncio.run(database.run(lambda connection: connection.execute("INSERT INTO things VALUES ('a', 1)").rowcount))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    with Database(str(tmp_path), [TABLE]) as database:
        assert asyncio.run(database.run(names)) == ["a"]
