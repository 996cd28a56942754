"""KeptFiles: the files of the API: a row each in the database, the bytes beside it; knows no HTTP and no batch.

All files together have a limit. The oldest make room for a new one, of whoever keeps most, so that nobody's are pushed out by
another's. What a batch uses stays until the batch has ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO, Literal, TypeVar

import msgspec

from yeoul.config.settings import StoreSettings
from yeoul.errors import InvalidRequestError, NotFoundError, UnavailableError
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.file_contents import FileContents, NewContent

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Order = Literal["asc", "desc"]

FILES_TABLE = """
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    filename TEXT NOT NULL,
    purpose TEXT NOT NULL,
    num_bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    num_users INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS files_by_tenant ON files (tenant, created_at);
"""

_BEHIND: dict[Order, str] = {
    "asc": "rowid > (SELECT rowid FROM files WHERE id = ?)",
    "desc": "rowid < (SELECT rowid FROM files WHERE id = ?)",
}
_FOLDER = "files"
_SECONDS_A_DAY = 86400
_NUM_BYTES_AT_A_TIME = 1 << 18
_COLUMNS = "id, tenant, filename, purpose, num_bytes, created_at, expires_at, num_users"


class StoredFile(msgspec.Struct, frozen=True):
    """A row. ``num_users`` are the batches that have not ended and use it."""

    id: str
    tenant: str
    filename: str
    purpose: str
    num_bytes: int
    created_at: int
    expires_at: int
    num_users: int


class KeptFiles:
    """
    Args:
        database: has the rows; its folder has the bytes.
        settings: the limits.
        clock: seconds since 1970.
    """

    def __init__(self, database: Database, settings: StoreSettings, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._num_incoming_bytes = 0
        folder = None if database.folder is None else os.path.join(database.folder, _FOLDER)
        self.contents = FileContents(folder)

    @property
    def max_file_bytes(self) -> int:
        """Of one file."""
        return min(self._settings.max_file_bytes, self._settings.max_bytes_of_files)

    # Receiving

    def receive(self) -> IncomingFile:
        """A new file; its bytes are written as they come."""
        return IncomingFile(self, self.contents.create(f"file-{uuid.uuid4().hex}"))

    def note_incoming(self, num_bytes: int) -> None:
        """So many more bytes are on the disk of files that are not complete, or fewer.

        Raises:
            UnavailableError: there are too many.
        """
        if num_bytes > 0 and self._num_incoming_bytes + num_bytes > self._settings.max_bytes_of_files:
            raise UnavailableError("the files that are being received have no room (--max-data-bytes); try again later")
        self._num_incoming_bytes += num_bytes

    async def keep(
        self, content: NewContent, tenant: str, filename: str, purpose: str, expires_after_seconds: int | None
    ) -> StoredFile:
        """The file is complete."""

        def work(connection: sqlite3.Connection) -> StoredFile:
            self._make_room(connection, tenant, content.num_bytes)
            content.keep()
            file_id, num_bytes = content.file_id, content.num_bytes
            return self._insert(connection, file_id, tenant, filename, purpose, num_bytes, expires_after_seconds)

        return await self._database.run(work)

    # Reading

    async def find(self, tenant: str, file_id: str) -> StoredFile:
        """
        Raises:
            NotFoundError: there is none, or it is another tenant's.
        """
        return await self._database.run(lambda connection: self.find_in(connection, tenant, file_id))

    async def page(
        self, tenant: str, *, purpose: str | None = None, after: str | None = None, limit: int = 10000, order: Order = "desc"
    ) -> tuple[list[StoredFile], bool]:
        """A page of the tenant's files, those behind the file ``after``, and whether there are more.

        Raises:
            NotFoundError: there is no file ``after``.
        """
        where = ["tenant = ?", "expires_at > ?"]
        values: list[object] = [tenant, int(self._clock())]
        if purpose is not None:
            where.append("purpose = ?")
            values.append(purpose)

        def work(connection: sqlite3.Connection) -> tuple[list[StoredFile], bool]:
            if after is not None:
                self.find_in(connection, tenant, after)
                where.append(_BEHIND[order])
                values.append(after)
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM files WHERE {' AND '.join(where)} ORDER BY rowid {order.upper()} LIMIT ?",
                [*values, limit + 1],
            )
            files = [StoredFile(*row) for row in rows]
            return files[:limit], len(files) > limit

        return await self._database.run(work)

    async def read(self, file: StoredFile) -> AsyncIterator[bytes]:
        """Its bytes, so many as its row says: of one that grows whole lines.

        Raises:
            UnavailableError: it was deleted meanwhile, or cannot be read.
        """
        opened = await asyncio.to_thread(self.contents.open, file.id)
        try:
            num_left = file.num_bytes
            while num_left > 0:
                content = await asyncio.to_thread(opened.read, min(num_left, _NUM_BYTES_AT_A_TIME))
                if not content:
                    raise UnavailableError("the file is shorter than it was")
                num_left -= len(content)
                yield content
        finally:
            opened.close()

    def open(self, file_id: str) -> BinaryIO:
        """For a thread that reads it."""
        return self.contents.open(file_id)

    # Deleting

    async def delete(self, tenant: str, file_id: str) -> None:
        """
        Raises:
            NotFoundError: there is none.
            InvalidRequestError: a batch uses it.
        """

        def work(connection: sqlite3.Connection) -> None:
            file = self.find_in(connection, tenant, file_id)
            if file.num_users:
                raise InvalidRequestError(
                    "a batch that has not ended uses this file: wait for it, or cancel it",
                    param="file_id",
                    code="file_in_use",
                )
            self._delete(connection, file_id)

        await self._database.run(work)

    async def sweep(self) -> None:
        """Deletes what has expired, and what a server that was killed has left."""

        def work(connection: sqlite3.Connection) -> None:
            now = int(self._clock())
            expired = connection.execute("SELECT id FROM files WHERE expires_at <= ? AND num_users = 0", (now,)).fetchall()
            for (file_id,) in expired:
                self._delete(connection, file_id)

        await self._database.run(work)

    async def sweep_leftovers(self) -> None:
        """Before anything is received: deletes bytes without a row and rows without bytes, as a kill may leave them."""

        def work(connection: sqlite3.Connection) -> None:
            known = {file_id for (file_id,) in connection.execute("SELECT id FROM files")}
            self.contents.sweep(known)
            for file_id in known:
                if not self.contents.has(file_id):
                    connection.execute("DELETE FROM files WHERE id = ?", (file_id,))

        await self._database.run(work)

    # For batches, inside of their own transactions

    def find_in(self, connection: sqlite3.Connection, tenant: str, file_id: str) -> StoredFile:
        """As ``find``."""
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM files WHERE id = ? AND tenant = ? AND (expires_at > ? OR num_users > 0)",
            (file_id, tenant, int(self._clock())),
        ).fetchone()
        if row is None:
            raise NotFoundError(f"there is no file {file_id[:100]!r}", param="file_id", code="file_not_found")
        return StoredFile(*row)

    def add_empty(
        self, connection: sqlite3.Connection, tenant: str, filename: str, purpose: str, expires_after_seconds: int | None
    ) -> str:
        """The id of a new file, which ``append`` fills."""
        content = self.contents.create(f"file-{uuid.uuid4().hex}")
        content.keep()
        return self._insert(connection, content.file_id, tenant, filename, purpose, 0, expires_after_seconds).id

    def append(self, connection: sqlite3.Connection, file_id: str, content: bytes) -> None:
        """Whole lines more. What a killed server wrote and could not note is written over.

        Raises:
            UnavailableError: there is no room for them.
        """
        ((tenant, size),) = connection.execute("SELECT tenant, num_bytes FROM files WHERE id = ?", (file_id,)).fetchall()
        self._make_room(connection, tenant, len(content))
        self.contents.write_at(file_id, size, content)
        connection.execute("UPDATE files SET num_bytes = ? WHERE id = ?", (size + len(content), file_id))

    def use(self, connection: sqlite3.Connection, file_id: str | None, *, begins: bool) -> None:
        """A batch begins to use this file, or ends."""
        change = 1 if begins else -1
        connection.execute("UPDATE files SET num_users = num_users + ? WHERE id = ?", (change, file_id))

    # Inside

    def _make_room(self, connection: sqlite3.Connection, tenant: str, num_bytes: int) -> None:
        """Deletes files that nobody uses, as far as that is needed for ``num_bytes`` more of this tenant.

        Raises:
            UnavailableError: that is not enough.
        """
        most = self._settings.max_bytes_of_files
        rows = connection.execute("SELECT tenant, sum(num_bytes), count(*) FROM files GROUP BY tenant").fetchall()
        sizes = Counter({name: size for name, size, _ in rows})
        counts = Counter({name: count for name, _, count in rows})
        sizes[tenant] += num_bytes
        counts[tenant] += 1
        if sizes.total() <= most and counts.total() <= self.contents.max_num_files:
            return
        unused: dict[str, deque[tuple[str, int]]] = {}
        query = "SELECT tenant, id, num_bytes FROM files WHERE num_users = 0 ORDER BY rowid"
        for name, file_id, size in connection.execute(query):
            unused.setdefault(name, deque()).append((file_id, size))
        leaving = []
        while (is_too_much := sizes.total() > most) or counts.total() > self.contents.max_num_files:
            if not unused:
                raise UnavailableError(
                    f"the files of batches that have not ended take {sizes.total() - num_bytes} bytes, and all files together"
                    f" may take {most}, half of --max-data-bytes; try again later",
                    retry_after_seconds=60,
                )
            name = max(unused, key=(sizes if is_too_much else counts).__getitem__)
            file_id, size = unused[name].popleft()
            leaving.append(file_id)
            sizes[name] -= size
            counts[name] -= 1
            if not unused[name]:
                del unused[name]
        for file_id in leaving:
            logger.info("the file %s makes room for newer ones (--max-data-bytes)", file_id)
            self._delete(connection, file_id)

    def _insert(
        self,
        connection: sqlite3.Connection,
        file_id: str,
        tenant: str,
        filename: str,
        purpose: str,
        num_bytes: int,
        expires_after_seconds: int | None,
    ) -> StoredFile:
        now = int(self._clock())
        most = int(self._settings.max_data_days * _SECONDS_A_DAY)
        expires_at = now + min(most, expires_after_seconds if expires_after_seconds is not None else most)
        file = StoredFile(file_id, tenant, filename, purpose, num_bytes, now, expires_at, 0)
        connection.execute(f"INSERT INTO files ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(file))
        return file

    def _delete(self, connection: sqlite3.Connection, file_id: str) -> None:
        connection.execute("DELETE FROM files WHERE id = ?", (file_id,))
        self.contents.delete(file_id)


class IncomingFile:
    """A file that is being received, as ``Sink`` knows it; ``with``: it is gone at the end unless it was kept."""

    def __init__(self, store: KeptFiles, content: NewContent) -> None:
        self._store = store
        self._content = content
        self._num_noted = 0

    def __enter__(self) -> IncomingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.note_incoming(-self._num_noted)
        self._content.drop()

    def write(self, content: bytes) -> None:
        """The next piece.

        Raises:
            UnavailableError: there is no room for it.
        """
        self._store.note_incoming(len(content))
        self._num_noted += len(content)
        self._content.write(content)

    async def keep(self, tenant: str, filename: str, purpose: str, expires_after_seconds: int | None = None) -> StoredFile:
        """It is complete.

        Raises:
            UnavailableError: there is no room for it.
        """
        return await self._store.keep(self._content, tenant, filename, purpose, expires_after_seconds)
