"""What the waiting room learns of requests that were held for want of an engine, through the table that holds them."""

from __future__ import annotations

import asyncio

from tests.unit.web_process.fake_engine_client import FakeEngine, until
from yeoul.messages.sampling import SamplingParams

LOAD_SECONDS = 60.0


def test_after_a_load_answers_are_expected_as_fast_as_they_are(monkeypatch):
    async def play() -> None:
        engine = FakeEngine()
        await asyncio.to_thread(engine.llm.resolve)
        await engine.llm.served.load()
        engine.llm.is_woken = True
        room = engine.llm.waiting_room
        late, clock = 0.0, room._clock
        monkeypatch.setattr(room, "_clock", lambda: clock() + late)
        stream = await engine.llm.submit([[1]], SamplingParams())
        late = LOAD_SECONDS
        await engine.llm.start()
        await stream.collect()
        room.check_deadline(30.0, 16, 1)
        engine.llm.requests.holds_new = True
        held = await engine.llm.submit([[1]], SamplingParams())
        late += LOAD_SECONDS
        engine.llm.requests.send_held()
        await held.collect()
        await until(lambda: not engine.llm.num_unfinished)
        room.check_deadline(30.0, 16, 1)
        await engine.llm.shutdown()

    asyncio.run(play())
