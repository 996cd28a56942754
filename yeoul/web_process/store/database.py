"""Database: the one SQLite file of what outlives a request, and the thread that reads and writes it; knows no table.

Without a folder it is in memory, and gone with the server. One server has a folder at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from setproctitle import setthreadtitle

from yeoul.config.user_folders import chosen_folder
from yeoul.errors import ConfigError, UnavailableError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]

_FILE = "yeoul.sqlite3"
_LOCK = "lock"
_IN_MEMORY = ":memory:"
_VERSION = 1  # of the tables; a file of a later one is not touched


class Database:
    """Use it with ``with``, or ``close`` it. Whatever is written is on the disk's side when ``run`` returns.

    A process that is killed loses nothing that was written. A machine that loses its power may lose the last moments.

    Args:
        folder: where the file lies; it is made, for this user alone. None: in memory.
        tables: statements that make the tables where they are missing.

    Raises:
        ConfigError: the folder cannot be used, another server uses it, or the file is damaged or of a later version.
    """

    def __init__(self, folder: str | None, tables: Sequence[str]) -> None:
        self._thread = ThreadPoolExecutor(1, "store", lambda: setthreadtitle("store"))
        self.folder = None if folder is None else chosen_folder(folder)
        with contextlib.ExitStack() as opened:
            if self.folder is not None:
                opened.enter_context(_lock(self.folder))
            opened.callback(self._thread.shutdown)
            self._connection = self._thread.submit(_connect, self.folder, tables).result()
            self._opened = opened.pop_all()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def run(self, work: Work[Result]) -> Result:
        """What ``work`` returns, done in the thread as one transaction: all of it, or where it raises nothing.

        Raises:
            UnavailableError: the file cannot be read or written, as on a disk that is full.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)

    def close(self) -> None:
        """Ends the thread and lets go of the folder. May be repeated."""
        with contextlib.suppress(RuntimeError):  # closed already
            self._thread.submit(self._connection.close).result()
        self._opened.close()

    def _transact(self, work: Work[Result]) -> Result:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            result = work(self._connection)
            self._connection.execute("COMMIT")
            return result
        except sqlite3.IntegrityError:
            raise  # the caller's: two of one name
        except sqlite3.Error as error:
            logger.exception("the store cannot be used")
            raise UnavailableError(f"what is kept cannot be read or written: {error}", retry_after_seconds=5) from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def _connect(folder: str | None, tables: Sequence[str]) -> sqlite3.Connection:
    path = _IN_MEMORY if folder is None else os.path.join(folder, _FILE)
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise ConfigError(f"--data-dir: {path} was written by a later version of yeoul; use that, or another folder")
        for statement in tables:
            connection.executescript(statement)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
    except sqlite3.Error as error:
        raise ConfigError(f"--data-dir: {path} cannot be used: {error}; move it away, or choose another folder") from error
    return connection


@contextlib.contextmanager
def _lock(folder: str) -> Iterator[None]:
    """Holds the folder for this process; the kernel lets go of it when the process ends, however it does."""
    path = os.path.join(folder, _LOCK)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"--data-dir: {folder} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"--data-dir: another server uses {folder}; give this one a folder of its own") from error
        yield
    finally:
        os.close(descriptor)
