"""What has ended is found by its ids and in its order, and makes room for what comes later."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import msgspec
import pytest

from yeoul.config.settings import StoreSettings
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.request_history import EndedRequest, RequestHistory
from yeoul.web_process.store.tables import TABLES

NOW = time.time()
SETTINGS = StoreSettings(max_data_bytes=1 << 20)


@pytest.fixture
def database() -> Iterator[Database]:
    with Database(None, TABLES) as opened:
        yield opened


def ended(number: int, **fields: object) -> EndedRequest:
    one = EndedRequest(f"r~{number}", "r", "me", NOW + number, "finished", b"%d" % number, os.urandom(1000), number)
    return one._replace(**fields)  # type: ignore[arg-type]


def test_pages_are_the_newest_first_of_an_owner_and_a_state(database):
    async def scene() -> None:
        history = RequestHistory(database, SETTINGS)
        await history.add(lambda: [ended(1), ended(2, owner="you"), ended(3, state="failed"), ended(4)])
        assert await history.page(None, None, None, 10) == [b"4", b"3", b"2", b"1"]
        assert await history.page("me", None, NOW + 4, 10) == [b"3", b"1"]
        assert await history.page(None, "failed", None, 10) == [b"3"]
        assert await history.page(None, None, None, 2) == [b"4", b"3"]

    asyncio.run(scene())


def test_a_record_is_found_by_its_id_and_the_last_one_by_its_clients_name(database):
    async def scene() -> None:
        history = RequestHistory(database, SETTINGS)
        await history.add(lambda: [ended(1, record=b"one"), ended(2, record=b"two")])
        assert await history.find("r~1") == b"one"
        assert await history.find("r") == b"two"
        assert await history.find("other") is None

    asyncio.run(scene())


def test_the_oldest_make_room_by_size_and_by_age(database):
    async def scene() -> None:
        history = RequestHistory(database, SETTINGS)  # 64 KiB for these
        for start in range(0, 200, 20):
            await history.add(lambda: [ended(number) for number in range(start, start + 20)])  # noqa: B023
        kept = await history.page(None, None, None, 1000)
        assert kept[0] == b"199"
        assert 0 < len(kept) <= 64
        young = RequestHistory(database, msgspec.structs.replace(SETTINGS, max_data_days=1.0))
        await young.add(lambda: [ended(500, arrived=NOW - 90_000.0), ended(501)])
        assert await young.find("r~500") is None
        assert await young.find("r~501") is not None

    asyncio.run(scene())


def test_the_slowest_stay_when_others_go_but_are_never_more_than_a_share_and_no_older_than_all(database):
    async def scene() -> None:
        history = RequestHistory(database, SETTINGS)
        await history.add(lambda: [ended(0, seconds=900.0), ended(1, seconds=800.0, owner="you"), ended(2, seconds=0.1)])
        for start in range(10, 210, 20):
            await history.add(lambda: [ended(number, seconds=1.0) for number in range(start, start + 20)])  # noqa: B023
        assert await history.find("r~0") is not None
        assert await history.find("r~2") is None
        slowest = await history.slowest(None, None, 100)
        assert slowest[:2] == [b"0", b"1"]
        assert len(slowest) * 1300 < SETTINGS.max_data_bytes / 16 / 3
        assert (await history.slowest("you", None, 100))[0] == b"1"
        assert await history.slowest("you", "failed", 100) == []
        young = RequestHistory(database, msgspec.structs.replace(SETTINGS, max_data_days=1.0))
        await young.add(lambda: [ended(500, arrived=NOW - 90_000.0, seconds=5000.0)])
        assert (await young.slowest(None, None, 1)) == [b"0"]

    asyncio.run(scene())
