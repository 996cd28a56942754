"""ConversationTable: conversations that are kept, each its owner's alone; knows no API: items are JSON to it."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from yeoul.errors import InvalidRequestError, NotFoundError
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.kept_bytes import KeptBytes

CONVERSATION_TABLES = """
CREATE TABLE IF NOT EXISTS conversations (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, kept_at REAL NOT NULL, is_unfinished INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL, metadata TEXT NOT NULL, num_bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS conversation_items (
    place INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    id TEXT NOT NULL, item BLOB NOT NULL, UNIQUE (conversation_id, id)
) STRICT;
"""

_OVERHEAD_BYTES = 256
MAX_NUM_ITEMS = 16384  # of a conversation


class KeptConversation(msgspec.Struct, kw_only=True):
    """What is told of one besides its items."""

    id: str
    created_at: int
    metadata: dict[str, str]


class ConversationTable:
    """Those that end in ``_now`` are a part of a transaction, all others one of their own."""

    def __init__(self, database: Database, bounds: KeptBytes) -> None:
        self._database = database
        self._bounds = bounds

    async def add(self, owner: str, kept: KeptConversation, items: Sequence[dict[str, Any]]) -> None:
        """Keeps a new one."""

        def work(connection: sqlite3.Connection) -> None:
            metadata = msgspec.json.encode(kept.metadata).decode()
            row = (kept.id, owner, time.time(), kept.created_at, metadata, _OVERHEAD_BYTES + len(metadata))
            names = "(id, owner, kept_at, created_at, metadata, num_bytes)"
            connection.execute(f"INSERT INTO conversations {names} VALUES (?, ?, ?, ?, ?, ?)", row)
            self.append_now(connection, owner, kept.id, items)

        await self._database.run(work)

    async def get(self, owner: str, conversation_id: str) -> KeptConversation:
        """The owner's conversation.

        Raises:
            NotFoundError: there is none, or it is another's.
        """
        return await self._database.run(lambda connection: self.get_now(connection, owner, conversation_id))

    def get_now(self, connection: sqlite3.Connection, owner: str, conversation_id: str) -> KeptConversation:
        """As ``get``."""
        found = "SELECT created_at, metadata FROM conversations WHERE id = ? AND owner = ? AND kept_at > ?"
        row = connection.execute(found, (conversation_id, owner, self._bounds.oldest())).fetchone()
        if row is None:
            raise NotFoundError(
                f"there is no conversation {conversation_id[:80]!r} here; what is kept is deleted when it is old"
            )
        return KeptConversation(id=conversation_id, created_at=row[0], metadata=msgspec.json.decode(row[1]))

    async def change(self, owner: str, conversation_id: str, metadata: dict[str, str]) -> KeptConversation:
        """Gives it other metadata. Raises as ``get``."""

        def work(connection: sqlite3.Connection) -> KeptConversation:
            kept = self.get_now(connection, owner, conversation_id)
            changed = "UPDATE conversations SET metadata = ?, kept_at = ? WHERE id = ?"
            connection.execute(changed, (msgspec.json.encode(metadata).decode(), time.time(), conversation_id))
            return msgspec.structs.replace(kept, metadata=metadata)

        return await self._database.run(work)

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Forgets it and its items. Raises as ``get``."""

        def work(connection: sqlite3.Connection) -> None:
            self.get_now(connection, owner, conversation_id)
            connection.execute("DELETE FROM conversations WHERE id = ?", (conversation_id,))

        await self._database.run(work)

    async def append(self, owner: str, conversation_id: str, items: Sequence[dict[str, Any]]) -> None:
        """More items. Raises as ``append_now``."""
        await self._database.run(lambda connection: self.append_now(connection, owner, conversation_id, items))

    def append_now(
        self, connection: sqlite3.Connection, owner: str, conversation_id: str, items: Sequence[dict[str, Any]]
    ) -> None:
        """More items; one whose id is there already stays as it is.

        Raises:
            NotFoundError: as ``get``.
            InvalidRequestError: there would be too many.
        """
        self.get_now(connection, owner, conversation_id)
        num_bytes = 0
        for item in items:
            packed = zlib.compress(msgspec.json.encode(item), 1)
            new = "INSERT INTO conversation_items (conversation_id, id, item) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
            if connection.execute(new, (conversation_id, item["id"], packed)).rowcount == 1:
                num_bytes += len(packed) + _OVERHEAD_BYTES
        counted = "SELECT COUNT(*) FROM conversation_items WHERE conversation_id = ?"
        if connection.execute(counted, (conversation_id,)).fetchone()[0] > MAX_NUM_ITEMS:
            raise InvalidRequestError(f"a conversation has at most {MAX_NUM_ITEMS} items; begin another", param="items")
        grown = "UPDATE conversations SET num_bytes = num_bytes + ?, kept_at = ? WHERE id = ?"
        connection.execute(grown, (num_bytes, time.time(), conversation_id))
        self._bounds.make_room(connection)

    def packed_items_now(self, connection: sqlite3.Connection, owner: str, conversation_id: str) -> list[bytes]:
        """All its items, as JSON each, the oldest first. Raises as ``get``."""
        self.get_now(connection, owner, conversation_id)
        found = "SELECT item FROM conversation_items WHERE conversation_id = ? ORDER BY place"
        return [zlib.decompress(item) for (item,) in connection.execute(found, (conversation_id,))]

    async def items(
        self, owner: str, conversation_id: str, *, after: str | None, is_rising: bool, limit: int
    ) -> list[dict[str, Any]]:
        """So many items behind the one of the id ``after``, the oldest first or the newest.

        Raises:
            NotFoundError: as ``get``, also for an item that is not there.
        """

        def work(connection: sqlite3.Connection) -> list[dict[str, Any]]:
            self.get_now(connection, owner, conversation_id)
            sign, order = (">", "ASC") if is_rising else ("<", "DESC")
            where, values = "conversation_id = ?", [conversation_id]
            if after is not None:
                place = _place_now(connection, conversation_id, after)
                where += f" AND place {sign} {place}"
            found = f"SELECT item FROM conversation_items WHERE {where} ORDER BY place {order} LIMIT {limit}"
            return [msgspec.json.decode(zlib.decompress(item)) for (item,) in connection.execute(found, values)]

        return await self._database.run(work)

    async def item(self, owner: str, conversation_id: str, item_id: str) -> dict[str, Any]:
        """One item. Raises as ``items``."""

        def work(connection: sqlite3.Connection) -> dict[str, Any]:
            self.get_now(connection, owner, conversation_id)
            place = _place_now(connection, conversation_id, item_id)
            (item,) = connection.execute("SELECT item FROM conversation_items WHERE place = ?", (place,)).fetchone()
            found: dict[str, Any] = msgspec.json.decode(zlib.decompress(item))
            return found

        return await self._database.run(work)

    async def delete_item(self, owner: str, conversation_id: str, item_id: str) -> KeptConversation:
        """Forgets one item; what is told of the conversation. Raises as ``items``."""

        def work(connection: sqlite3.Connection) -> KeptConversation:
            kept = self.get_now(connection, owner, conversation_id)
            place = _place_now(connection, conversation_id, item_id)
            (num_bytes,) = connection.execute(
                "SELECT LENGTH(item) FROM conversation_items WHERE place = ?", (place,)
            ).fetchone()
            connection.execute("DELETE FROM conversation_items WHERE place = ?", (place,))
            shrunk = "UPDATE conversations SET num_bytes = num_bytes - ? WHERE id = ?"
            connection.execute(shrunk, (num_bytes + _OVERHEAD_BYTES, conversation_id))
            return kept

        return await self._database.run(work)


def _place_now(connection: sqlite3.Connection, conversation_id: str, item_id: str) -> int:
    found = "SELECT place FROM conversation_items WHERE conversation_id = ? AND id = ?"
    row = connection.execute(found, (conversation_id, item_id)).fetchone()
    if row is None:
        raise NotFoundError(f"the conversation has no item {item_id[:80]!r}", param="item_id")
    return int(row[0])
