"""ResponseTable: the responses that are kept, each its owner's alone; knows no API: items and answers are JSON to it."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from yeoul.errors import NotFoundError
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.kept_bytes import KeptBytes

RESPONSE_TABLES = """
CREATE TABLE IF NOT EXISTS responses (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, kept_at REAL NOT NULL, is_unfinished INTEGER NOT NULL, previous_id TEXT,
    conversation_id TEXT, request BLOB, input BLOB NOT NULL, answer BLOB, output BLOB, num_bytes INTEGER NOT NULL,
    num_starts INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS response_progress (
    response_id TEXT NOT NULL REFERENCES responses (id) ON DELETE CASCADE, place INTEGER PRIMARY KEY, made BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS response_progress_by_response ON response_progress (response_id, place);
CREATE TABLE IF NOT EXISTS response_events (
    response_id TEXT NOT NULL REFERENCES responses (id) ON DELETE CASCADE, place INTEGER NOT NULL, events BLOB NOT NULL,
    PRIMARY KEY (response_id, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS response_makers (
    response_id TEXT PRIMARY KEY REFERENCES responses (id) ON DELETE CASCADE, server TEXT NOT NULL, web INTEGER NOT NULL
) STRICT;
"""

_OVERHEAD_BYTES = 512  # of a row, its indexes and ids
_COLUMNS = "id, owner, request, input, previous_id, conversation_id, answer, output"


class Maker(NamedTuple):
    """Of several web processes the one that makes an unfinished response: its place in one run of a server."""

    server: str
    web: int


class KeptResponse(msgspec.Struct, kw_only=True):
    """One response. ``request`` is all that is needed to make it once more, while it is unfinished; ``input`` and ``output``
    are lists of items; ``answer`` is the object as it is told, None until it is finished.
    """

    id: str
    owner: str
    input: bytes
    request: bytes | None = None
    previous_id: str | None = None
    conversation_id: str | None = None
    answer: bytes | None = None
    output: bytes | None = None


class ResponseTable:
    """Methods that end in ``_now`` are a part of a transaction, all others one of their own."""

    def __init__(self, database: Database, bounds: KeptBytes) -> None:
        self._database = database
        self._bounds = bounds

    async def add(self, kept: KeptResponse, maker: Maker | None = None) -> None:
        """Keeps a response, finished or not; of one that is not, who makes it, where they are several."""

        def work(connection: sqlite3.Connection) -> None:
            self.add_now(connection, kept)
            if maker is not None:
                connection.execute("INSERT INTO response_makers VALUES (?, ?, ?)", (kept.id, *maker))

        await self._database.run(work)

    def add_now(self, connection: sqlite3.Connection, kept: KeptResponse) -> None:
        """As ``add``."""
        packed = [_packed(data) for data in (kept.request, kept.input, kept.answer, kept.output)]
        connection.execute(
            f"INSERT INTO responses ({_COLUMNS}, kept_at, is_unfinished, num_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                kept.id, kept.owner, *packed[:2], kept.previous_id, kept.conversation_id, *packed[2:],
                time.time(), kept.answer is None, _OVERHEAD_BYTES + _size(packed),
            ),
        )  # fmt: skip
        self._bounds.make_room(connection)

    def finish_now(self, connection: sqlite3.Connection, kept: KeptResponse, events: Sequence[bytes]) -> bool:
        """One that was kept unfinished has its answer, and its events, packed in blocks; False where it is not there."""
        packed = [_packed(kept.answer), _packed(kept.output)]
        done = connection.execute(
            "UPDATE responses SET is_unfinished = 0, request = NULL, answer = ?, output = ?, num_bytes = num_bytes + ?"
            " WHERE id = ? AND is_unfinished",
            (*packed, _size([*packed, *events]), kept.id),
        )
        if done.rowcount == 1:
            for table in ("response_progress", "response_makers"):
                connection.execute(f"DELETE FROM {table} WHERE response_id = ?", (kept.id,))
            rows = [(kept.id, place, block) for place, block in enumerate(events)]
            connection.executemany("INSERT INTO response_events VALUES (?, ?, ?)", rows)
            self._bounds.make_room(connection)
        return done.rowcount == 1

    async def note_start(self, response_id: str) -> int:
        """An unfinished one is begun again: how often in a row, without anything made of it."""

        def work(connection: sqlite3.Connection) -> int:
            connection.execute("UPDATE responses SET num_starts = num_starts + 1 WHERE id = ?", (response_id,))
            row = connection.execute("SELECT num_starts FROM responses WHERE id = ?", (response_id,)).fetchone()
            return 0 if row is None else int(row[0])

        return await self._database.run(work)

    async def note_progress(self, response_id: str, made: bytes) -> None:
        """Keeps what was made of an unfinished one since the last time."""

        def work(connection: sqlite3.Connection) -> None:
            there = connection.execute("UPDATE responses SET num_starts = 0 WHERE id = ?", (response_id,))
            if there.rowcount == 1:
                new = "INSERT INTO response_progress (response_id, made) VALUES (?, ?)"
                connection.execute(new, (response_id, _packed(made)))

        await self._database.run(work)

    async def progress(self, response_id: str) -> list[bytes]:
        """All that was kept by ``note_progress``, in order."""

        def work(connection: sqlite3.Connection) -> list[bytes]:
            found = "SELECT made FROM response_progress WHERE response_id = ? ORDER BY place"
            return [zlib.decompress(made) for (made,) in connection.execute(found, (response_id,))]

        return await self._database.run(work)

    async def unfinished(self, maker: Maker | None = None) -> list[KeptResponse]:
        """What was being made when it was last kept, the oldest first.

        Of several web processes, what the one before in the place of ``maker`` has left, who makes it from now on; the first
        one has what an earlier server has left, too. What others make stays with them.
        """

        def work(connection: sqlite3.Connection) -> list[KeptResponse]:
            if maker is None:
                rows = connection.execute(f"SELECT {_COLUMNS} FROM responses WHERE is_unfinished ORDER BY kept_at")
                return [_kept(row) for row in rows]
            left = (
                f"SELECT {_COLUMNS} FROM responses LEFT JOIN response_makers ON response_id = id WHERE is_unfinished"
                " AND (server = ?1 AND web = ?2 OR ?2 = 0 AND server IS NOT ?1) ORDER BY kept_at"
            )
            found = [_kept(row) for row in connection.execute(left, maker)]
            new = [(kept.id, *maker) for kept in found]
            connection.executemany("INSERT OR REPLACE INTO response_makers VALUES (?, ?, ?)", new)
            return found

        return await self._database.run(work)

    async def get(self, owner: str, response_id: str) -> KeptResponse:
        """The owner's response of this id.

        Raises:
            NotFoundError: there is none, or it is another's.
        """
        return await self._database.run(lambda connection: self.get_now(connection, owner, response_id))

    def get_now(self, connection: sqlite3.Connection, owner: str, response_id: str) -> KeptResponse:
        """As ``get``."""
        found = f"SELECT {_COLUMNS} FROM responses WHERE id = ? AND owner = ? AND kept_at > ?"
        row = connection.execute(found, (response_id, owner, self._bounds.oldest())).fetchone()
        if row is None:
            raise NotFoundError(f"there is no response {response_id[:80]!r} here; what is kept is deleted when it is old")
        return _kept(row)

    async def events(self, response_id: str, first_block: int) -> tuple[int, list[bytes]]:
        """The packed events of a finished one from that block on, from the last one where there are fewer, and its number.

        None of one that did not run in the background.
        """

        def work(connection: sqlite3.Connection) -> tuple[int, list[bytes]]:
            last = "SELECT MAX(place) FROM response_events WHERE response_id = ?"
            place = min(first_block, connection.execute(last, (response_id,)).fetchone()[0] or 0)
            found = "SELECT events FROM response_events WHERE response_id = ? AND place >= ? ORDER BY place"
            return place, [events for (events,) in connection.execute(found, (response_id, place))]

        return await self._database.run(work)

    async def delete(self, owner: str, response_id: str) -> None:
        """Forgets one. Raises as ``get``."""

        def work(connection: sqlite3.Connection) -> None:
            self.get_now(connection, owner, response_id)
            connection.execute("DELETE FROM responses WHERE id = ?", (response_id,))

        await self._database.run(work)


def _kept(row: tuple[Any, ...]) -> KeptResponse:
    response_id, owner, request, given, previous_id, conversation_id, answer, output = row
    return KeptResponse(
        id=response_id,
        owner=owner,
        request=_unpacked(request),
        input=zlib.decompress(given),
        previous_id=previous_id,
        conversation_id=conversation_id,
        answer=_unpacked(answer),
        output=_unpacked(output),
    )


def _packed(data: bytes | None) -> bytes | None:
    return None if data is None else zlib.compress(data, 1)


def _unpacked(data: bytes | None) -> bytes | None:
    return None if data is None else zlib.decompress(data)


def _size(blobs: Sequence[bytes | None]) -> int:
    return sum(len(blob or b"") for blob in blobs)
