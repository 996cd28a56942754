"""OutputQueueLoop: each request gets its own, nobody holds the loop, and no failure goes unnoticed."""

from __future__ import annotations

import asyncio

from tests.unit.web_process.fake_engine_client import FakeEngineClient, settings, until
from yeoul.errors import ProcessDeadError
from yeoul.messages.outputs import EngineMessage, RequestOutput, StepOutputs
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.statistics import EngineStatistics
from yeoul.model_files.describe import describe
from yeoul.model_files.description import ModelFiles
from yeoul.web_process.output_queue_loop import OutputQueueLoop
from yeoul.web_process.request_state import RequestState


class Noted:
    """A request that notes in which turn of the loop it was fed; done after its first output."""

    def __init__(self, request_id: str, turns: list[int], clock: list[int]) -> None:
        self.add = AddRequest(request_id=request_id, prompt_token_ids=[1], sampling=SamplingParams())
        self._turns = turns
        self._clock = clock

    def apply(self, output: RequestOutput, now: float) -> bool:
        self._turns.append(self._clock[0])
        return True

    def fail(self, error: Exception, now: float) -> None:
        raise AssertionError("nothing fails here")


def engine() -> FakeEngineClient:
    files = ModelFiles(name="fake", file_format="fake", path="")
    return FakeEngineClient(settings(), files, describe(files), 256)


def test_a_large_step_is_handed_out_in_parts_so_that_others_have_their_turn():
    async def play() -> None:
        client, clock = engine(), [0]
        turns: list[int] = []
        states: dict[str, RequestState] = {str(number): Noted(str(number), turns, clock) for number in range(200)}
        finished: list[int] = []
        loop = OutputQueueLoop(
            client, states, on_statistics=lambda _: None, on_finished=finished.append, on_death=lambda _: None
        )
        task = loop.start()
        client.emit(StepOutputs([RequestOutput(request_id=str(number), finish_reason="stop") for number in range(200)]))
        while states:
            await asyncio.sleep(0)
            clock[0] += 1
        assert max(map(turns.count, turns)) <= 32
        assert sum(finished) == 200
        task.cancel()

    asyncio.run(play())


def test_a_backlog_of_small_steps_is_handed_out_in_parts_too():
    async def play() -> None:
        client, clock = engine(), [0]
        turns: list[int] = []
        states: dict[str, RequestState] = {str(number): Noted(str(number), turns, clock) for number in range(200)}
        loop = OutputQueueLoop(
            client, states, on_statistics=lambda _: None, on_finished=lambda _: None, on_death=lambda _: None
        )
        task = loop.start()
        for number in range(0, 200, 5):
            client.emit(
                StepOutputs([RequestOutput(request_id=str(number + part), finish_reason="stop") for part in range(5)])
            )
        while states:
            await asyncio.sleep(0)
            clock[0] += 1
        assert max(map(turns.count, turns)) <= 32
        task.cancel()

    asyncio.run(play())


def test_outputs_of_requests_that_nobody_waits_for_are_dropped():
    async def play() -> None:
        client = engine()
        seen: list[EngineStatistics] = []
        loop = OutputQueueLoop(client, {}, on_statistics=seen.append, on_finished=lambda _: None, on_death=lambda _: None)
        task = loop.start()
        client.emit(StepOutputs([RequestOutput(request_id="gone", new_token_ids=[1])], EngineStatistics(num_running=3)))
        await until(lambda: bool(seen))
        assert seen[0].num_running == 3
        assert client.sent == []
        task.cancel()

    asyncio.run(play())


def test_whatever_ends_the_task_is_reported_as_a_death():
    class Unreadable(FakeEngineClient):
        async def receive(self) -> EngineMessage:
            raise ValueError("no such message")

    async def play() -> None:
        files = ModelFiles(name="fake", file_format="fake", path="")
        client = Unreadable(settings(), files, describe(files), 256)
        deaths: list[ProcessDeadError] = []
        loop = OutputQueueLoop(client, {}, on_statistics=lambda _: None, on_finished=lambda _: None, on_death=deaths.append)
        await loop.start()
        assert "no such message" in deaths[0].message

    asyncio.run(play())
