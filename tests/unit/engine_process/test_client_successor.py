"""An EngineCore takes the place of another only where it would give the same answers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from tests.processes.fake_engine import FILES
from yeoul import __version__
from yeoul.config.settings import Settings
from yeoul.engine_process.client import AsyncMPClient
from yeoul.engine_process.connection import EngineConnection
from yeoul.errors import ProcessDeadError
from yeoul.messages.outputs import EngineReady
from yeoul.model_files.describe import describe
from yeoul.model_files.description import shape_digest


def ready(fingerprint: str) -> EngineReady:
    return EngineReady(
        version=__version__,
        pid=7,
        num_blocks=8,
        block_size=16,
        cache_bytes=1,
        max_model_len=128,
        model_fingerprint=fingerprint,
        shape_digest=shape_digest(describe(FILES)),
        workers=[],
    )


def client_of_engines(monkeypatch, *fingerprints: str) -> AsyncMPClient:
    """A client whose engines, one after the other, have these fingerprints."""
    engines = iter(fingerprints)

    def spawn(*_: object) -> object:
        async def start() -> EngineReady:
            return ready(next(engines))

        async def close(*, at_once: bool) -> None:
            assert at_once

        return SimpleNamespace(open=start, close=close)

    monkeypatch.setattr(EngineConnection, "spawn", spawn)
    return AsyncMPClient(Settings(), FILES, describe(FILES), 512)


def test_an_engine_of_another_fingerprint_counts_as_dead_and_the_next_may_be_the_right_one(monkeypatch):
    async def scenario() -> None:
        client = client_of_engines(monkeypatch, "fp_a", "fp_b", "fp_a")
        first = await client.start()
        with pytest.raises(ProcessDeadError, match=r"EngineCore would compute other things than before \(fp_a, now fp_b\)"):
            await client.replace()
        assert client.ready is first
        assert (await client.replace()).model_fingerprint == "fp_a"

    asyncio.run(scenario())
