"""The tables of the database, of all stores together; each store has its own statement, and this is where they meet."""

from __future__ import annotations

from yeoul.web_process.store.batches import BATCHES_TABLE
from yeoul.web_process.store.conversation_table import CONVERSATION_TABLES
from yeoul.web_process.store.files import FILES_TABLE
from yeoul.web_process.store.kept_bytes import KEPT_BYTES
from yeoul.web_process.store.request_history import REQUESTS_TABLE
from yeoul.web_process.store.response_table import RESPONSE_TABLES

TABLES: list[str] = [FILES_TABLE, BATCHES_TABLE, RESPONSE_TABLES, CONVERSATION_TABLES, KEPT_BYTES, REQUESTS_TABLE]
"""What makes them where they are missing."""
