"""The tables of the database, of all stores together; each store has its own statement, and this is where they meet."""

from __future__ import annotations

TABLES: list[str] = []
"""What makes them where they are missing."""
