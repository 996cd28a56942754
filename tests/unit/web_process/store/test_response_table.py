"""What is kept of responses and conversations: whose it is, what makes room for what, and what a server that is gone left."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from yeoul.config.settings import StoreSettings
from yeoul.errors import NotFoundError
from yeoul.web_process.store.conversation_table import ConversationTable, KeptConversation
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.kept_bytes import KeptBytes
from yeoul.web_process.store.response_table import KeptResponse, ResponseTable
from yeoul.web_process.store.tables import TABLES

ROW = 512  # what a row costs at least
ONE_MIB_OF_THEM = (1 << 20) * 16 // 7
"""Of all that is kept, so that responses and conversations may have a MiB of it."""


def test_all_that_is_kept_together_has_one_limit():
    for most in (1 << 20, (1 << 30) + 1, 12_345_678):
        settings = StoreSettings(max_data_bytes=most)
        shares = (settings.max_bytes_of_files, settings.max_bytes_of_responses, settings.max_bytes_of_history)
        assert sum(shares) == most
        assert min(shares) > 0


class Store:
    """A database with its tables."""

    def __init__(self, folder: str | None = None, **settings: Any) -> None:
        self.database = Database(folder, TABLES)
        self.bounds = KeptBytes(self.database, StoreSettings(**settings))
        self.responses = ResponseTable(self.database, self.bounds)
        self.conversations = ConversationTable(self.database, self.bounds)

    async def left(self) -> list[str]:
        """The ids of all that is kept."""

        def work(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute("SELECT id FROM responses UNION SELECT id FROM conversations ORDER BY id")
            return [name for (name,) in rows]

        return await self.database.run(work)

    async def counted(self) -> dict[str, int]:
        """What each owner is thought to keep, which has to be what there is."""

        def work(connection: sqlite3.Connection) -> dict[str, int]:
            true = connection.execute(
                "SELECT owner, SUM(num_bytes) FROM (SELECT owner, num_bytes FROM responses UNION ALL"
                " SELECT owner, num_bytes FROM conversations) GROUP BY owner"
            ).fetchall()
            thought = connection.execute("SELECT owner, num_bytes FROM kept_bytes WHERE num_bytes > 0").fetchall()
            assert sorted(true) == sorted(thought)
            return dict(true)

        return await self.database.run(work)


def play(scene: Callable[[Store], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        store = Store(**options)
        with store.database:
            await scene(store)

    asyncio.run(run())


def response(name: str, owner: str = "a", answer: bytes | None = b"{}", **fields: Any) -> KeptResponse:
    """Its input cannot be packed."""
    given = os.urandom(fields.pop("num_bytes", 8))
    return KeptResponse(id=name, owner=owner, input=given, answer=answer, output=b"[]", **fields)


def test_what_is_kept_is_found_by_its_owner_alone():
    async def scene(store: Store) -> None:
        kept = response("r", previous_id="p", conversation_id="c", request=b"body")
        await store.responses.add(kept)
        assert await store.responses.get("a", "r") == kept
        for owner, name in (("b", "r"), ("a", "s")):
            with pytest.raises(NotFoundError):
                await store.responses.get(owner, name)
            with pytest.raises(NotFoundError):
                await store.responses.delete(owner, name)
        await store.responses.delete("a", "r")
        assert await store.left() == []
        assert await store.counted() == {}

    play(scene)


def test_the_oldest_make_room_of_whoever_keeps_most():
    async def scene(store: Store) -> None:
        await store.responses.add(response("b0", "b", num_bytes=1000))
        for number in range(70):
            await store.responses.add(response(f"a{number:02}", num_bytes=1000))
        left = await store.left()
        assert "b0" in left, "another's are not pushed out"
        assert left[:-1] == [f"a{number:02}" for number in range(70 - len(left) + 1, 70)], "the newest are left"
        assert 40 <= len(left) < 70
        assert sum((await store.counted()).values()) <= (1 << 20) // 16

    play(scene, max_data_bytes=ONE_MIB_OF_THEM)


def test_conversations_make_room_as_well():
    async def scene(store: Store) -> None:
        for number in range(60):
            new = KeptConversation(id=f"c{number:02}", created_at=0, metadata={})
            await store.conversations.add("a", new, [{"id": "i", "text": os.urandom(700).hex()}])
            await store.responses.add(response(f"r{number:02}", num_bytes=1000))
            await store.counted()
        left = await store.left()
        assert "c00" not in left
        assert {"c59", "r59"} <= set(left)

    play(scene, max_data_bytes=ONE_MIB_OF_THEM)


def test_what_is_still_being_made_stays():
    async def scene(store: Store) -> None:
        await store.responses.add(response("u", answer=None, num_bytes=40_000))
        for number in range(50):
            await store.responses.add(response(f"r{number:02}", num_bytes=1000))
        assert "u" in await store.left()

    play(scene, max_data_bytes=ONE_MIB_OF_THEM)


def test_what_is_old_is_gone(monkeypatch):
    async def scene(store: Store) -> None:
        await store.responses.add(response("r"))
        await store.conversations.add("a", KeptConversation(id="c", created_at=0, metadata={}), [])
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 2 * 86400 + 1)
        with pytest.raises(NotFoundError, match="deleted when it is old"):
            await store.responses.get("a", "r")
        with pytest.raises(NotFoundError, match="deleted when it is old"):
            await store.conversations.get("a", "c")
        await store.responses.add(response("s"))
        assert await store.left() == ["s"]

    play(scene, max_data_days=2.0)


def test_an_unfinished_one_is_found_by_the_next_server_with_what_was_made_of_it(tmp_path):
    async def first(store: Store) -> None:
        await store.responses.add(response("u", answer=None, request=b"again"))
        await store.responses.add(response("f"))
        for made in (b"one", b"two"):
            await store.responses.note_progress("u", made)
        assert await store.responses.note_start("u") == 1
        assert await store.responses.note_start("u") == 2
        await store.responses.note_progress("u", b"three")
        await store.responses.note_progress("gone", b"nobody's")

    async def second(store: Store) -> None:
        (kept,) = await store.responses.unfinished()
        assert (kept.id, kept.request, kept.answer) == ("u", b"again", None)
        assert await store.responses.progress("u") == [b"one", b"two", b"three"]
        assert await store.responses.note_start("u") == 1, "it went on in between"
        kept.answer, kept.output = b'{"a":1}', b"[1]"
        events = [b"block 0", b"block 1", b"block 2"]
        assert await store.database.run(lambda connection: store.responses.finish_now(connection, kept, events))
        assert not await store.database.run(lambda connection: store.responses.finish_now(connection, kept, events))
        assert await store.responses.unfinished() == []
        assert await store.responses.progress("u") == []
        assert (await store.responses.get("a", "u")).request is None
        assert await store.responses.events("u", 1) == (1, events[1:])
        assert await store.responses.events("u", 9) == (2, events[2:])
        assert await store.responses.events("f", 0) == (0, [])
        assert (await store.counted())["a"] > 2 * ROW

    folder = str(tmp_path / "data")
    play(first, folder=folder)
    play(second, folder=folder)


def test_items_of_a_conversation_come_in_their_order():
    async def scene(store: Store) -> None:
        table = store.conversations
        await table.add("a", KeptConversation(id="c", created_at=5, metadata={"x": "y"}), [{"id": "0"}])
        await table.append("a", "c", [{"id": str(number)} for number in range(1, 5)])
        await table.append("a", "c", [{"id": "2"}, {"id": "5"}])

        async def listed(**page: Any) -> str:
            page = {"after": None, "is_rising": True, "limit": 10} | page
            return "".join(item["id"] for item in await table.items("a", "c", **page))

        assert await listed() == "012345", "one that is there already stays where it is"
        assert await listed(is_rising=False, limit=2) == "54"
        assert await listed(after="2", limit=2) == "34"
        assert await listed(after="2", is_rising=False) == "10"
        await table.delete_item("a", "c", "3")
        assert await listed() == "01245"
        await store.counted()
        for attempt in (
            table.items("a", "c", after="9", is_rising=True, limit=1),
            table.item("a", "c", "3"),
            table.item("b", "c", "1"),
            table.append("b", "c", [{"id": "x"}]),
        ):
            with pytest.raises(NotFoundError):
                await attempt
        await table.delete("a", "c")
        assert await store.counted() == {}

    play(scene)
