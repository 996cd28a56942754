"""KeptBatches: the batches of the API, a row each in the database, and the files that their answers go to; runs none of them.

Routes make and cancel batches here, the runner reads what is to be done; ``changed`` tells it that there is something new.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from yeoul.config.settings import StoreSettings
from yeoul.errors import InvalidRequestError, NotFoundError, TooManyRequestsError
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.files import KeptFiles, StoredFile

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
UNFINISHED: frozenset[Status] = frozenset({"validating", "in_progress", "finalizing", "cancelling"})

MAX_NUM_UNFINISHED = 1000  # of all keys together
_MAX_NUM_FINISHED = 10000
_SECONDS_A_DAY = 86400

BATCHES_TABLE = """
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    is_finished INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    state BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS batches_by_tenant ON batches (tenant, created_at);
CREATE INDEX IF NOT EXISTS batches_by_end ON batches (is_finished);
"""


class BatchError(msgspec.Struct, frozen=True):
    """Why a batch failed: a line of its input, by number, or the whole."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a batch. Times are seconds since 1970; what has a status in its name is when it came to that."""

    id: str
    tenant: str
    endpoint: str
    completion_window: str
    input_file_id: str
    status: Status = "validating"
    metadata: dict[str, str] | None = None
    output_expires_after_seconds: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: list[BatchError] = []
    num_total: int = 0
    num_completed: int = 0
    num_failed: int = 0
    created_at: int
    expires_at: int
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None

    @property
    def is_finished(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status not in UNFINISHED

    @property
    def file_ids(self) -> list[str]:
        """Of the files that it uses while it is not finished."""
        return [name for name in (self.input_file_id, self.output_file_id, self.error_file_id) if name is not None]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Batch).decode


class KeptBatches:
    """
    Args:
        database: has the rows.
        files: has what they read and write.
        settings: how long they are kept.
        clock: seconds since 1970.
    """

    def __init__(
        self, database: Database, files: KeptFiles, settings: StoreSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._files = files
        self._settings = settings
        self._clock = clock
        self.changed = asyncio.Event()

    def now(self) -> int:
        """Seconds since 1970."""
        return int(self._clock())

    # For routes

    async def create(
        self,
        tenant: str,
        *,
        endpoint: str,
        input_file_id: str,
        completion_window: str,
        window_seconds: int,
        metadata: dict[str, str] | None,
        output_expires_after_seconds: int | None,
    ) -> Batch:
        """A new one, which the runner will find.

        Raises:
            NotFoundError: there is no such file.
            InvalidRequestError: the file is for something else.
            TooManyRequestsError: there are too many.
        """
        batch = Batch(
            id=f"batch_{uuid.uuid4().hex}",
            tenant=tenant,
            endpoint=endpoint,
            completion_window=completion_window,
            input_file_id=input_file_id,
            metadata=metadata,
            output_expires_after_seconds=output_expires_after_seconds,
            created_at=self.now(),
            expires_at=self.now() + window_seconds,
        )

        def work(connection: sqlite3.Connection) -> None:
            file = self._find_input(connection, tenant, input_file_id)
            if file.purpose != "batch":
                raise InvalidRequestError(
                    f"the file's purpose is {file.purpose!r}; upload it with the purpose 'batch'", param="input_file_id"
                )
            ((number,),) = connection.execute("SELECT count(*) FROM batches WHERE is_finished = 0").fetchall()
            if number >= MAX_NUM_UNFINISHED:
                message = f"{number} batches have not ended, and no more may wait; try again later"
                raise TooManyRequestsError(message, retry_after_seconds=60)
            self._files.use(connection, input_file_id, begins=True)
            connection.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?)", (batch.id, tenant, False, batch.created_at, _encode(batch))
            )

        await self._database.run(work)
        self.changed.set()
        return batch

    async def find(self, tenant: str, batch_id: str) -> Batch:
        """
        Raises:
            NotFoundError: there is none, or it is another tenant's.
        """
        return await self._database.run(lambda connection: self._find(connection, tenant, batch_id))

    async def page(self, tenant: str, *, after: str | None = None, limit: int = 20) -> tuple[list[Batch], bool]:
        """A page of the tenant's batches, the newest first, those behind ``after``; and whether there are more.

        Raises:
            NotFoundError: there is no batch ``after``.
        """

        def work(connection: sqlite3.Connection) -> list[Batch]:
            before = 1 << 62
            if after is not None:
                self._find(connection, tenant, after)
                ((before,),) = connection.execute("SELECT rowid FROM batches WHERE id = ?", (after,)).fetchall()
            query = "SELECT state FROM batches WHERE tenant = ? AND rowid < ? ORDER BY rowid DESC LIMIT ?"
            return [_decode(state) for (state,) in connection.execute(query, (tenant, before, limit + 1))]

        found = await self._database.run(work)
        return found[:limit], len(found) > limit

    async def cancel(self, tenant: str, batch_id: str) -> Batch:
        """Lets the runner end it.

        Raises:
            NotFoundError: there is none.
            InvalidRequestError: it has ended.
        """

        def work(connection: sqlite3.Connection) -> Batch:
            batch = self._find(connection, tenant, batch_id)
            if batch.status == "cancelling":
                return batch
            if batch.status not in ("validating", "in_progress"):
                message = f"a batch that is {batch.status} cannot be cancelled"
                raise InvalidRequestError(message, code="batch_not_cancellable")
            return self._replace(connection, batch, status="cancelling", cancelling_at=self.now())

        batch = await self._database.run(work)
        self.changed.set()
        return batch

    # For the runner

    async def unfinished(self) -> list[Batch]:
        """Those that are to be run, the oldest first."""
        query = "SELECT state FROM batches WHERE is_finished = 0 ORDER BY rowid"
        return await self._database.run(lambda connection: [_decode(state) for (state,) in connection.execute(query)])

    async def get(self, batch_id: str) -> Batch:
        """The batch as it is now."""
        return await self._database.run(lambda connection: self._get(connection, batch_id))

    async def change(self, batch_id: str, **changes: object) -> Batch:
        """The batch with these changes, which are kept; one that is being cancelled does not go on by them."""

        def work(connection: sqlite3.Connection) -> Batch:
            batch = self._get(connection, batch_id)
            if batch.status == "cancelling" and changes.get("status") in ("in_progress", "finalizing"):
                return batch
            return self._replace(connection, batch, **changes)

        return await self._database.run(work)

    async def add_answers(self, batch_id: str, good: Sequence[bytes], bad: Sequence[bytes]) -> Batch:
        """These lines are answered, and will not be again: the lines and their number are kept together, or neither is.

        Raises:
            UnavailableError: there is no room for them.
        """

        def work(connection: sqlite3.Connection) -> Batch:
            batch = self._get(connection, batch_id)
            changes: dict[str, object] = {}
            for kind, lines, file_id in (("output", good, batch.output_file_id), ("error", bad, batch.error_file_id)):
                if lines:
                    if file_id is None:
                        file_id = changes[f"{kind}_file_id"] = self._add_file(connection, batch, kind)
                    self._files.append(connection, file_id, b"".join(lines))
            changes["num_completed"] = batch.num_completed + len(good)
            changes["num_failed"] = batch.num_failed + len(bad)
            return self._replace(connection, batch, **changes)

        return await self._database.run(work)

    async def sweep(self) -> None:
        """Deletes those that ended long ago, or are too many."""

        def work(connection: sqlite3.Connection) -> None:
            oldest = self.now() - int(self._settings.max_data_days * _SECONDS_A_DAY)
            connection.execute("DELETE FROM batches WHERE is_finished = 1 AND created_at < ?", (oldest,))
            connection.execute(
                "DELETE FROM batches WHERE rowid IN"
                " (SELECT rowid FROM batches WHERE is_finished = 1 ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
                (_MAX_NUM_FINISHED,),
            )

        await self._database.run(work)

    # Inside

    def _find_input(self, connection: sqlite3.Connection, tenant: str, file_id: str) -> StoredFile:
        try:
            return self._files.find_in(connection, tenant, file_id)
        except NotFoundError as error:
            error.param = "input_file_id"
            raise

    def _find(self, connection: sqlite3.Connection, tenant: str, batch_id: str) -> Batch:
        query = "SELECT state FROM batches WHERE id = ? AND tenant = ?"
        row = connection.execute(query, (batch_id, tenant)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no batch {batch_id[:100]!r}", param="batch_id", code="batch_not_found")
        return _decode(row[0])

    def _get(self, connection: sqlite3.Connection, batch_id: str) -> Batch:
        ((state,),) = connection.execute("SELECT state FROM batches WHERE id = ?", (batch_id,)).fetchall()
        return _decode(state)

    def _replace(self, connection: sqlite3.Connection, batch: Batch, **changes: object) -> Batch:
        changed = msgspec.structs.replace(batch, **changes)
        if changed.is_finished and not batch.is_finished:
            for file_id in batch.file_ids:
                self._files.use(connection, file_id, begins=False)
        connection.execute(
            "UPDATE batches SET state = ?, is_finished = ? WHERE id = ?", (_encode(changed), changed.is_finished, batch.id)
        )
        return changed

    def _add_file(self, connection: sqlite3.Connection, batch: Batch, kind: str) -> str:
        seconds = batch.output_expires_after_seconds
        name = f"{batch.id}_{kind}.jsonl"
        file_id = self._files.add_empty(connection, batch.tenant, name, "batch_output", seconds)
        self._files.use(connection, file_id, begins=True)
        return file_id
