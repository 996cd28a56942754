"""KeptBytes: how much is kept of whom, and what makes room for more; knows what rows cost, not what is in them.

The oldest go first, of whoever keeps most, so that nobody's are pushed out by another's. What is still being made stays.
"""

from __future__ import annotations

import sqlite3
import time

from yeoul.config.settings import StoreSettings
from yeoul.web_process.store.database import Database

_SHARE_IN_MEMORY = 16  # memory is dearer than a disk
_SECONDS_A_DAY = 86400.0
_COUNTED = ("responses", "conversations")
"""Tables with ``owner``, ``kept_at``, ``is_unfinished`` and ``num_bytes``."""


def _count(table: str) -> str:
    return f"""
CREATE INDEX IF NOT EXISTS {table}_by_age ON {table} (kept_at);
CREATE INDEX IF NOT EXISTS {table}_by_owner ON {table} (owner, is_unfinished, kept_at);
CREATE TRIGGER IF NOT EXISTS {table}_added AFTER INSERT ON {table} BEGIN
    INSERT INTO kept_bytes VALUES (new.owner, new.num_bytes)
    ON CONFLICT (owner) DO UPDATE SET num_bytes = num_bytes + new.num_bytes;
END;
CREATE TRIGGER IF NOT EXISTS {table}_changed AFTER UPDATE OF num_bytes ON {table} BEGIN
    UPDATE kept_bytes SET num_bytes = num_bytes + new.num_bytes - old.num_bytes WHERE owner = new.owner;
END;
CREATE TRIGGER IF NOT EXISTS {table}_removed AFTER DELETE ON {table} BEGIN
    UPDATE kept_bytes SET num_bytes = num_bytes - old.num_bytes WHERE owner = old.owner;
END;
"""


KEPT_BYTES = "CREATE TABLE IF NOT EXISTS kept_bytes (owner TEXT PRIMARY KEY, num_bytes INTEGER NOT NULL) STRICT;" + "".join(
    map(_count, _COUNTED)
)
"""Makes the table; behind the tables that are counted."""


class KeptBytes:
    """The bounds of one database. What does not last has room for a sixteenth: it may be in memory."""

    def __init__(self, database: Database, settings: StoreSettings) -> None:
        self._most_bytes = settings.max_bytes_of_responses // (1 if database.lasts else _SHARE_IN_MEMORY)
        self._most_seconds = settings.max_data_days * _SECONDS_A_DAY

    def oldest(self) -> float:
        """What was kept before is gone, deleted already or not: a time of the wall clock."""
        return time.time() - self._most_seconds

    def make_room(self, connection: sqlite3.Connection) -> None:
        """Deletes what is too old, and what is too much."""
        for table in _COUNTED:
            connection.execute(f"DELETE FROM {table} WHERE kept_at <= ? AND NOT is_unfinished", (self.oldest(),))
        connection.execute("DELETE FROM kept_bytes WHERE num_bytes <= 0")
        while True:
            (num_bytes,) = connection.execute("SELECT COALESCE(SUM(num_bytes), 0) FROM kept_bytes").fetchone()
            if num_bytes <= self._most_bytes:
                return
            owners = connection.execute("SELECT owner FROM kept_bytes ORDER BY num_bytes DESC").fetchall()
            if not any(_delete_oldest(connection, owner) for (owner,) in owners):
                return


def _delete_oldest(connection: sqlite3.Connection, owner: str) -> bool:
    ages = []
    for table in _COUNTED:
        oldest = f"SELECT kept_at, rowid FROM {table} WHERE owner = ? AND NOT is_unfinished ORDER BY kept_at LIMIT 1"
        ages += [(*row, table) for row in connection.execute(oldest, (owner,))]
    if not ages:
        return False
    _, rowid, table = min(ages)
    connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
    return True
