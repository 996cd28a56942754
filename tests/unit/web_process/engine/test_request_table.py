"""RequestTable: whatever happens to engines and requests, each request is in one place, and gets there by the table."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.unit.web_process.fake_engine_client import FakeEngine, FakeEngineClient, settings, until
from yeoul.engines.engine_requests import EngineRequests
from yeoul.engines.request_place import MAY_FOLLOW, RequestPlace
from yeoul.messages.outputs import RequestFault, RequestOutput, StepOutputs
from yeoul.messages.requests import AbortRequests, AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.describe import describe
from yeoul.model_files.description import ModelFiles
from yeoul.recovery.crash_inquiry import CrashCount
from yeoul.web_process.engine.request_observer import Requester, RequestObserver
from yeoul.web_process.engine.request_state import RequestState
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.request_table import RequestTable
from yeoul.web_process.engine.waiting_room import WaitingRoom

HELD, SENT, BEGUN, GOING, GONE = RequestPlace


class Plain(RequestState):
    """A request whose every output brings a token."""

    def __init__(self, request_id: str) -> None:
        add = AddRequest(request_id=request_id, prompt_token_ids=[1], sampling=SamplingParams())
        stream = RequestStream(request_id, [[1]], add.sampling, [0], lambda stream: None)
        detokenizer: Any = None  # nothing is asked of it
        super().__init__(add, stream, detokenizer, RequestObserver(), 0.0, who=Requester(request_id, "", ""))
        self.ends: list[str] = []

    def apply(self, output: RequestOutput, now: float, gaps: dict[float, int]) -> bool:
        if self.place is not GOING:
            self.move_to(GOING)
        self.output_token_ids.append(1)
        return output.finish_reason is not None

    def fail(self, error: Exception, now: float) -> None:
        self.ends.append("failed")

    def give_up(self, now: float) -> None:
        self.ends.append("given up")


def fake_engine() -> FakeEngineClient:
    files = ModelFiles(name="fake", file_format="fake", path="")
    return FakeEngineClient(settings(), files, describe(files), 256)


def table() -> tuple[RequestTable, EngineRequests]:
    requests = RequestTable(WaitingRoom(1000, 1000), RequestObserver())
    return requests, requests.engines[0]


def with_requests(requests: RequestTable, *names: str) -> list[Plain]:
    states = [Plain(name) for name in names]
    for state in states:
        requests.add(state)
    return states


def give_token(state: Plain) -> None:
    state.apply(RequestOutput(request_id=state.add.request_id, new_token_ids=[1]), 0.0, {})


def test_from_every_place_but_the_last_there_is_a_way_out_and_a_way_back_to_an_engine():
    assert set(MAY_FOLLOW) == set(RequestPlace)
    for place in (HELD, SENT, BEGUN, GOING):
        assert GONE in MAY_FOLLOW[place]
    for place in (SENT, BEGUN, GOING):
        assert HELD in MAY_FOLLOW[place]
    assert MAY_FOLLOW[HELD] == {SENT, GONE}
    assert not MAY_FOLLOW[GONE]


def test_without_an_engine_requests_are_held_and_with_one_they_are_sent():
    async def play() -> None:
        (requests, held), engine = table(), fake_engine()
        (early,) = with_requests(requests, "early")
        assert early.place is HELD
        assert held.attach(engine) == 1
        (late,) = with_requests(requests, "late")
        assert (early.place, late.place) == (SENT, SENT)
        assert [add.request_id for add in engine.added] == ["early", "late"]
        held.detach("it died")
        requests.give_up(["late"])
        assert (early.place, late.place) == (HELD, GONE)
        assert not any(isinstance(message, AbortRequests) for message in engine.sent)

    asyncio.run(play())


def test_a_death_counts_against_those_that_had_begun_and_made_nothing():
    async def play() -> None:
        (requests, held), engine = table(), fake_engine()
        held.attach(engine)
        waiting, begun, going = with_requests(requests, "waiting", "begun", "going")
        held.note_begun(["begun", "going", "nobody"])
        give_token(going)
        held.detach("it died")
        assert [state.crash_count for state in (waiting, begun, going)] == [(0, 0), (1, 0), (0, 0)]
        assert going.add.output_token_ids == [1]
        held.attach(engine)
        held.note_begun(["begun"])
        held.detach("it died")
        assert begun.crash_count == CrashCount(2)
        held.attach(engine)
        give_token(begun)
        held.detach("it died")
        assert begun.crash_count == CrashCount(0)

    asyncio.run(play())


def test_who_begins_alone_and_dies_twice_as_a_suspect_fails():
    async def play() -> None:
        (requests, held), engine = table(), fake_engine()
        guilty, innocent = with_requests(requests, "guilty", "innocent")
        for _ in range(2):
            held.attach(engine)
            held.note_begun(["guilty", "innocent"])
            assert held.detach("it died").culprit is None
        held.attach(engine)
        give_token(innocent)
        for culprit in (None, None, "guilty"):
            held.note_begun(["guilty"])
            assert held.detach("it died").culprit == culprit
            held.attach(engine)
        assert guilty.ends == ["failed"]
        assert (guilty.place, innocent.place) == (GONE, SENT)
        assert list(held.states) == ["innocent"]

    asyncio.run(play())


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_in_whatever_order_every_request_is_in_one_place(seed):
    draw = random.Random(seed)

    async def play() -> None:
        (requests, held), engine, has_engine = table(), fake_engine(), False
        everybody: list[Plain] = []
        for number in range(300):
            alive = [state for state in everybody if state.place is not GONE]
            some = draw.sample(alive, draw.randint(0, min(3, len(alive))))
            names = [state.add.request_id for state in some]
            what = draw.choice(["add", "add", "begin", "token", "engine", "give up", "ask", "fail"])
            if what == "add":
                everybody += with_requests(requests, f"r{number}")
            elif what == "engine":
                held.detach("it died") if has_engine else held.attach(engine)
                has_engine = not has_engine
            elif what == "give up":
                requests.give_up([*names, "nobody"])
            elif what == "fail":
                for name in names:
                    held.fail(name, ValueError())
            elif has_engine and what == "begin":
                held.note_begun(names)
            elif has_engine and what == "token":
                for state in some:
                    give_token(state)
            elif has_engine and what == "ask":
                held.send_again(held.sent, set(held.states) - set(names))
            assert set(held.states) == {state.add.request_id for state in everybody if state.place is not GONE}
            assert all((state.place is HELD) != has_engine for state in everybody if state.place is not GONE)
            assert all(len(state.ends) == (state.place is GONE) for state in everybody)

    asyncio.run(play())


class Notes(RequestObserver):
    """Who ended, and how; how long they were in the queue."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, int, int]] = []
        self.waits: list[float] = []

    def queued(self, who: Requester, seconds: float) -> None:
        self.waits.append(seconds)

    def finished(self, who: Requester, reason: str, *counts: Any) -> None:
        seconds_since_arrival, num_prompt_tokens, num_output_tokens = counts
        assert seconds_since_arrival >= 0
        self.ended.append((reason, num_prompt_tokens, num_output_tokens))


@pytest.mark.parametrize("how", ["stop", "error", "abort"])
def test_the_ends_of_embeddings_are_counted_as_those_of_answers(how):
    async def play() -> None:
        async with FakeEngine() as engine:
            engine.llm.observer = notes = Notes()
            if how != "stop":
                engine.client.gate.clear()
            task = asyncio.create_task(engine.llm.encode("hi"))
            await until(lambda: bool(engine.client.added))
            (add,) = engine.client.added
            if how == "abort":
                task.cancel()
            elif how == "error":
                fault = RequestFault("no")
                engine.client.emit(
                    StepOutputs([RequestOutput(request_id=add.request_id, finish_reason="error", fault=fault)])
                )
            await asyncio.gather(task, return_exceptions=True)
            assert notes.ended == [(how, len(add.prompt_token_ids), 0)]
            assert len(notes.waits) == (how == "stop")

    asyncio.run(play())
