"""Database: the one SQLite file of what outlives a request, and the thread that reads and writes it; knows no table.

Without a folder it is in memory, and gone with the server. One server has a folder at a time; its web processes, where they
are several, have one file together, without a folder one that is gone with the server as well.
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
from yeoul.web_process.siblings import NO_SIBLINGS, Siblings

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]

_FILE = "yeoul.sqlite3"
_LOCK = "lock"
_QUEUE, _TURN = "queue", "turn"  # files that are locked, of several web processes
_IN_MEMORY = ":memory:"
_VERSION = 1  # of the tables; a file of a later one is not touched


class Database:
    """Use it with ``with``, or ``close`` it. Whatever is written is on the disk's side when ``run`` returns.

    A process that is killed loses nothing that was written. A machine that loses its power may lose the last moments.

    ``folder`` is where it is, and what belongs to it, None in memory; ``lasts``: the next server will find it.

    Args:
        folder: where the file lies; it is made, for this user alone. None: in memory.
        tables: statements that make the tables where they are missing.
        siblings: the web processes that have it together; with any, ``hold_folder`` is theirs who starts them.

    Raises:
        ConfigError: the folder cannot be used, another server uses it, or the file is damaged or of a later version.
    """

    def __init__(self, folder: str | None, tables: Sequence[str], siblings: Siblings = NO_SIBLINGS) -> None:
        self._thread = ThreadPoolExecutor(1, "store", lambda: setthreadtitle("store"))
        self.folder = siblings.folder if folder is None else chosen_folder(folder)
        self.lasts = folder is not None
        self._turns: _Turns | None = None
        with contextlib.ExitStack() as opened:
            if siblings.folder is not None:
                self._turns = opened.enter_context(contextlib.closing(_Turns(siblings.folder)))
            elif folder is not None:
                opened.enter_context(hold_folder(folder))
            opened.callback(self._thread.shutdown)
            self._connection = self._thread.submit(self._connect, tables).result()
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

    def _connect(self, tables: Sequence[str]) -> sqlite3.Connection:
        with self._turn():
            return _connect(self.folder, tables)

    def _turn(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._turns is None else self._turns.take()

    def _transact(self, work: Work[Result]) -> Result:
        with self._turn():
            return self._transact_now(work)

    def _transact_now(self, work: Work[Result]) -> Result:
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
def hold_folder(folder: str) -> Iterator[None]:
    """Holds the folder for this process; the kernel lets go of it when the process ends, however it does.

    Raises:
        ConfigError: it cannot be used, or another server holds it.
    """
    folder = chosen_folder(folder)
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


class _Turns:
    """Lets the web processes of a server write one after the other, nobody twice while another one waits.

    SQLite's own way is to try again and again, with pauses, until a time is over: who writes much would starve others. Here
    whoever waits at the head of the queue has the next turn. The kernel lets go of what a dead process had.
    """

    def __init__(self, folder: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._queue, self._turn = (os.open(os.path.join(folder, name), flags, 0o600) for name in (_QUEUE, _TURN))

    def close(self) -> None:
        """Nothing is locked any longer."""
        os.close(self._queue)
        os.close(self._turn)

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """Waits for the turn; it is over when the block ends."""
        fcntl.flock(self._queue, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._queue, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
