"""Requests that fill gaps are in nobody's way at the door: they take no room, count in no forecast, and nobody times them."""

from __future__ import annotations

import asyncio

import msgspec

from tests.unit.web_process.fake_engine_client import FakeEngine, settings
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.engine.request_observer import Requester, RequestObserver
from yeoul.web_process.engine.service_terms import PLAIN_TERMS, ServiceTerms

IN_GAPS = ServiceTerms(in_gaps=True, tenant="batches")
SAMPLING = SamplingParams(max_tokens=2, seed=0)


class Notes(RequestObserver):
    """Whose first tokens were timed."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def first_token(self, who: Requester, seconds_since_arrival: float) -> None:
        self.names.append(who.tenant)


def test_any_number_of_them_leaves_the_room_to_others():
    async def scene() -> None:
        chosen = settings()
        chosen = msgspec.structs.replace(
            chosen, scheduler=msgspec.structs.replace(chosen.scheduler, max_num_waiting_requests=1)
        )
        async with FakeEngine(chosen) as engine:
            llm = engine.llm
            streams = [await llm.submit([[1]], SAMPLING, terms=IN_GAPS) for _ in range(20)]
            assert llm._requests.num_live == 0
            streams.append(await llm.submit([[1]], SAMPLING))
            assert llm._requests.num_live == 1
            assert {add.request_id: add.in_gaps for add in engine.client.added}.popitem()[1] is False
            assert sum(add.in_gaps for add in engine.client.added) == 20
            for stream in streams:
                await stream.collect()
            assert llm._requests.num_live == 0
            assert llm._requests._num_in_gaps == 0

    asyncio.run(scene())


def test_a_deadline_is_not_refused_because_of_them():
    async def scene() -> None:
        async with FakeEngine() as engine:
            llm = engine.llm
            for _ in range(3):
                await (await llm.submit([[1]], SAMPLING)).collect()
            held = [await llm.submit([[1]], SAMPLING, terms=IN_GAPS) for _ in range(200)]
            urgent = msgspec.structs.replace(PLAIN_TERMS, deadline_seconds=5.0)
            await (await llm.submit([[1]], SAMPLING, terms=urgent)).collect()
            for stream in held:
                stream.close()

    asyncio.run(scene())


def test_their_times_are_nobodys():
    async def scene() -> None:
        async with FakeEngine() as engine:
            engine.llm.observer = notes = Notes()
            for terms in (IN_GAPS, ServiceTerms(tenant="live")):
                await (await engine.llm.submit([[1]], SAMPLING, terms=terms)).collect()
            assert notes.names == ["live"]
            assert sum(engine.llm.token_gaps.counts) == 1

    asyncio.run(scene())
