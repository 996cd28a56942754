"""The tables of the database, of all stores together; each store has its own statement, and this is where they meet."""

from __future__ import annotations

from yeoul.web_process.store.batches import BATCHES_TABLE
from yeoul.web_process.store.files import FILES_TABLE

TABLES: list[str] = [FILES_TABLE, BATCHES_TABLE]
"""What makes them where they are missing."""
