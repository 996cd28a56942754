"""OutputQueueLoop: each request gets its own, nobody holds the loop, and no failure goes unnoticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.unit.web_process.fake_engine_client import FakeEngineClient, settings, until
from yeoul.errors import ProcessDeadError
from yeoul.messages.outputs import EngineMessage, RequestOutput, StepOutputs, WorkersLost, WorkersReplaced
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

    has_progressed = False

    def resume(self) -> None:
        raise AssertionError("nothing is resumed here")


def engine() -> FakeEngineClient:
    files = ModelFiles(name="fake", file_format="fake", path="")
    return FakeEngineClient(settings(), files, describe(files), 256)


def nothing(_: object) -> None:
    """What a callback does that this test does not look at."""


def loop_of(
    client: FakeEngineClient,
    states: dict[str, RequestState],
    *,
    on_statistics: Callable[[EngineStatistics], None] = nothing,
    on_finished: Callable[[list[RequestState]], None] = nothing,
    on_workers: Callable[[WorkersLost | WorkersReplaced], None] = nothing,
    deaths: list[ProcessDeadError] | None = None,
    num_lives: int = 1,
) -> OutputQueueLoop:
    """A loop that ends with the last of ``num_lives`` engines."""
    told = [] if deaths is None else deaths

    async def heal(error: ProcessDeadError) -> bool:
        told.append(error)
        return len(told) < num_lives

    return OutputQueueLoop(
        client,
        states,
        on_statistics=on_statistics,
        on_outputs=nothing,
        on_finished=on_finished,
        on_workers=on_workers,
        heal=heal,
    )


def test_a_large_step_is_handed_out_in_parts_so_that_others_have_their_turn():
    async def play() -> None:
        client, clock = engine(), [0]
        turns: list[int] = []
        states: dict[str, RequestState] = {str(number): Noted(str(number), turns, clock) for number in range(200)}
        finished: list[list[RequestState]] = []
        loop = loop_of(client, states, on_finished=finished.append)
        task = loop.start()
        client.emit(StepOutputs([RequestOutput(request_id=str(number), finish_reason="stop") for number in range(200)]))
        while states:
            await asyncio.sleep(0)
            clock[0] += 1
        assert max(map(turns.count, turns)) <= 32
        assert sum(map(len, finished)) == 200
        task.cancel()

    asyncio.run(play())


def test_a_backlog_of_small_steps_is_handed_out_in_parts_too():
    async def play() -> None:
        client, clock = engine(), [0]
        turns: list[int] = []
        states: dict[str, RequestState] = {str(number): Noted(str(number), turns, clock) for number in range(200)}
        loop = loop_of(client, states)
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
        loop = loop_of(client, {}, on_statistics=seen.append)
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
        loop = loop_of(client, {}, deaths=deaths)
        await loop.start()
        assert "no such message" in deaths[0].message

    asyncio.run(play())


def test_it_goes_on_with_the_engine_that_took_a_dead_ones_place():
    async def play() -> None:
        client = engine()
        deaths: list[ProcessDeadError] = []
        seen: list[WorkersLost | WorkersReplaced] = []
        task = loop_of(client, {}, on_workers=seen.append, deaths=deaths, num_lives=2).start()
        client.die()
        lost = WorkersLost("Worker_1", "was killed by signal 9 (SIGKILL)", -9)
        client.emit(lost)
        await until(lambda: bool(seen))
        assert seen == [lost]
        assert [death.exit_code for death in deaths] == [-9]
        client.die()
        await task
        assert len(deaths) == 2

    asyncio.run(play())
