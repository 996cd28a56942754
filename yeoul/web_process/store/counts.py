"""How much the database keeps, of each kind; knows what tables there are, not what is in them. Metrics ask."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

KINDS = ("files", "responses", "conversations", "requests")


class Kept(NamedTuple):
    """``counts`` are how many there are of each of ``KINDS``; ``num_bytes`` what all but the requests' histories have."""

    counts: dict[str, int]
    num_open_batches: int
    num_finished_batches: int
    num_bytes: int


def count_kept(connection: sqlite3.Connection) -> Kept:
    """Reads indexes and small tables alone: rows may be large."""

    def number(statement: str) -> int:
        return int(connection.execute(statement).fetchone()[0])

    batches = dict(connection.execute("SELECT is_finished, COUNT(*) FROM batches GROUP BY is_finished").fetchall())
    num_bytes = number("SELECT COALESCE(SUM(num_bytes), 0) FROM kept_bytes")
    num_bytes += number("SELECT COALESCE(SUM(num_bytes), 0) FROM files")
    counts = {kind: number(f"SELECT COUNT(*) FROM {kind}") for kind in KINDS}
    return Kept(counts, batches.get(0, 0), batches.get(1, 0), num_bytes)
