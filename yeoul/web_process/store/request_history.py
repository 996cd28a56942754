"""RequestHistory: requests that have ended, as their log wrote them down, in the order in which they came; bounded by size.

The slowest stay when others of their age go: they are what somebody asks for later.
A record is bytes here, and so is what a list shows of it. Knows no HTTP and no engine.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from yeoul.config.settings import StoreSettings
from yeoul.web_process.store.database import Database

REQUESTS_TABLE = """
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, owner TEXT NOT NULL, arrived REAL NOT NULL, state TEXT NOT NULL,
    summary BLOB NOT NULL, record BLOB NOT NULL, num_bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS requests_by_age ON requests (arrived);
CREATE INDEX IF NOT EXISTS requests_by_name ON requests (name, arrived);
CREATE TABLE IF NOT EXISTS slowest_requests (
    id TEXT PRIMARY KEY REFERENCES requests ON DELETE CASCADE, seconds REAL NOT NULL, num_bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS requests_by_slowness ON slowest_requests (seconds);
CREATE TABLE IF NOT EXISTS request_bytes (num_bytes INTEGER NOT NULL) STRICT;
INSERT INTO request_bytes SELECT COALESCE(SUM(num_bytes), 0) FROM requests WHERE NOT EXISTS (SELECT 1 FROM request_bytes);
CREATE TRIGGER IF NOT EXISTS requests_added AFTER INSERT ON requests BEGIN
    UPDATE request_bytes SET num_bytes = num_bytes + new.num_bytes;
END;
CREATE TRIGGER IF NOT EXISTS requests_removed AFTER DELETE ON requests BEGIN
    UPDATE request_bytes SET num_bytes = num_bytes - old.num_bytes;
END;
"""

_MOST_BYTES_IN_MEMORY = 16 << 20
_NUM_SLOWEST = 256
_SHARE_OF_SLOWEST = 4  # of those bytes they may have
_OVERHEAD_BYTES = 256  # of a row, its indexes and ids
_SECONDS_A_DAY = 86400.0


class EndedRequest(NamedTuple):
    """``name`` is what its client calls it, ``owner`` whose it is, ``arrived`` Unix time; it took ``seconds``."""

    id: str
    name: str
    owner: str
    arrived: float
    state: str
    summary: bytes
    record: bytes
    seconds: float = 0.0


class RequestHistory:
    """The oldest make room for the newest."""

    def __init__(self, database: Database, settings: StoreSettings) -> None:
        self._database = database
        most = settings.max_bytes_of_history
        self._most_bytes = most if database.lasts else min(most, _MOST_BYTES_IN_MEMORY)
        self._most_seconds = settings.max_data_days * _SECONDS_A_DAY

    async def add(self, make: Callable[[], list[EndedRequest]]) -> None:
        """Keeps what ``make`` makes, in the thread of the database."""
        await self._database.run(lambda connection: self._add_now(connection, make()))

    def _add_now(self, connection: sqlite3.Connection, ended: list[EndedRequest]) -> None:
        for one in ended:
            packed = zlib.compress(one.record, 1)
            num_bytes = len(packed) + len(one.summary) + _OVERHEAD_BYTES
            row = (*one[:6], packed, num_bytes)
            connection.execute("DELETE FROM requests WHERE id = ?", (one.id,))  # its bytes do not count any longer
            connection.execute("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("INSERT OR REPLACE INTO slowest_requests VALUES (?, ?, ?)", (one.id, one.seconds, num_bytes))
        self._let_go_of_faster(connection)
        self._make_room(connection)

    def _let_go_of_faster(self, connection: sqlite3.Connection) -> None:
        """Of the slowest only so many, with so many bytes, are kept for that; they stay as long as any other."""
        ranked = (
            "SELECT id, ROW_NUMBER() OVER slowest AS place, SUM(num_bytes) OVER slowest AS bytes FROM slowest_requests"
            " WINDOW slowest AS (ORDER BY seconds DESC, id)"
        )
        most_bytes = self._most_bytes // _SHARE_OF_SLOWEST
        connection.execute(
            f"DELETE FROM slowest_requests WHERE id IN (SELECT id FROM ({ranked}) WHERE place > ? OR bytes > ?)",
            (_NUM_SLOWEST, most_bytes),
        )

    def _make_room(self, connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM requests WHERE arrived <= ?", (time.time() - self._most_seconds,))
        while connection.execute("SELECT num_bytes > ? FROM request_bytes", (self._most_bytes,)).fetchone()[0]:
            oldest = (
                "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE id NOT IN (SELECT id FROM slowest_requests)"
                " ORDER BY arrived LIMIT 64)"
            )
            if not connection.execute(oldest).rowcount:
                return

    async def page(self, owner: str | None, state: str | None, before: float | None, limit: int) -> list[bytes]:
        """The summaries of those that came before ``before``, the newest first; of one owner, in one state, or of all."""
        conditions = {"owner = ?": owner, "state = ?": state, "arrived < ?": before}
        return await self._summaries("requests", conditions, "arrived", limit)

    async def slowest(self, owner: str | None, state: str | None, limit: int) -> list[bytes]:
        """The summaries of the slowest that are kept, the slowest first; of one owner, in one state, or of all."""
        conditions: dict[str, object] = {"owner = ?": owner, "state = ?": state}
        return await self._summaries("slowest_requests JOIN requests USING (id)", conditions, "seconds", limit)

    async def _summaries(self, source: str, conditions: Mapping[str, object], order: str, limit: int) -> list[bytes]:
        wanted = {condition: value for condition, value in conditions.items() if value is not None}
        where = " WHERE " + " AND ".join(wanted) if wanted else ""
        query = f"SELECT summary FROM {source}{where} ORDER BY {order} DESC LIMIT ?"
        return await self._database.run(
            lambda connection: [row for (row,) in connection.execute(query, (*wanted.values(), limit))]
        )

    async def find(self, name: str) -> bytes | None:
        """The record of the request of this id, or of the last one that its client calls so."""
        query = "SELECT record FROM requests WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC, arrived DESC LIMIT 1"
        row = await self._database.run(lambda connection: connection.execute(query, (name,)).fetchone())
        return None if row is None else zlib.decompress(row[0])
