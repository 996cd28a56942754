"""OutputQueueLoop: each request gets its own, nobody holds the loop, and no failure goes unnoticed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.web_process.fake_engine_client import FakeEngineClient, settings, until
from yeoul.engine_process.client import AsyncMPClient
from yeoul.engines.engine_recovery import EngineRecovery
from yeoul.engines.engine_requests import EngineRequests
from yeoul.engines.incidents import IncidentLog
from yeoul.engines.output_queue_loop import OutputQueueLoop
from yeoul.errors import ProcessDeadError
from yeoul.messages.outputs import EngineMessage, RequestOutput, StepOutputs, WorkersLost, WorkersReplaced
from yeoul.messages.requests import AbortRequests, AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.statistics import EngineStatistics
from yeoul.model_files.describe import describe
from yeoul.model_files.description import ModelFiles
from yeoul.web_process.engine.request_observer import Requester, RequestObserver
from yeoul.web_process.engine.request_state import RequestState
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.request_table import RequestTable
from yeoul.web_process.engine.waiting_room import WaitingRoom


class Noted(RequestState):
    """A request that notes in which turn of the loop it was fed; done after its first output."""

    def __init__(self, request_id: str, turns: list[int], clock: list[int]) -> None:
        add = AddRequest(request_id=request_id, prompt_token_ids=[1], sampling=SamplingParams())
        stream = RequestStream(request_id, [[1]], add.sampling, [0], lambda stream: None)
        detokenizer: Any = None  # nothing is asked of it
        super().__init__(add, stream, detokenizer, RequestObserver(), 0.0, who=Requester(request_id, "", ""))
        self._turns = turns
        self._clock = clock

    def apply(self, output: RequestOutput, now: float, gaps: dict[float, int]) -> bool:
        self._turns.append(self._clock[0])
        return True

    def fail(self, error: Exception, now: float) -> None:
        raise AssertionError("nothing fails here")

    def give_up(self, now: float) -> None:
        raise AssertionError("nothing is given up here")


class Nurse(EngineRecovery):
    """Notes what it is told; the last of ``num_lives`` engines is not replaced."""

    def __init__(self, requests: EngineRequests, num_lives: int) -> None:
        super().__init__(requests, settings(), IncidentLog(), lambda error: None)
        self.num_lives = num_lives
        self.deaths: list[ProcessDeadError] = []
        self.heard: list[WorkersLost | WorkersReplaced] = []

    async def heal(self, engine: AsyncMPClient, death: ProcessDeadError) -> bool:
        self.deaths.append(death)
        return len(self.deaths) < self.num_lives

    def note_workers(self, engine: AsyncMPClient, message: WorkersLost | WorkersReplaced) -> None:
        self.heard.append(message)


def engine() -> FakeEngineClient:
    files = ModelFiles(name="fake", file_format="fake", path="")
    return FakeEngineClient(settings(), files, describe(files), 256)


class Scene:
    """A loop with everything that it talks to."""

    def __init__(self, client: FakeEngineClient, num_requests: int = 0, num_lives: int = 1) -> None:
        self.client = client
        self.clock, self.turns = [0], list[int]()
        table = RequestTable(WaitingRoom(1000, 1000), RequestObserver())
        self.requests = table.engines[0]
        self.requests.attach(client)
        for number in range(num_requests):
            table.add(Noted(str(number), self.turns, self.clock))
        client.sent.clear()
        self.nurse = Nurse(self.requests, num_lives)
        self.task = asyncio.create_task(OutputQueueLoop(client, self.requests, self.nurse).run())

    async def count_turns(self) -> None:
        while self.requests.states:
            await asyncio.sleep(0)
            self.clock[0] += 1
        self.task.cancel()


def test_a_large_step_is_handed_out_in_parts_so_that_others_have_their_turn():
    async def play() -> None:
        scene = Scene(engine(), 200)
        scene.client.emit(StepOutputs([RequestOutput(request_id=str(number), finish_reason="stop") for number in range(200)]))
        await scene.count_turns()
        assert len(scene.turns) == 200
        assert max(map(scene.turns.count, scene.turns)) <= 32

    asyncio.run(play())


def test_a_backlog_of_small_steps_is_handed_out_in_parts_too():
    async def play() -> None:
        scene = Scene(engine(), 200)
        for number in range(0, 200, 5):
            scene.client.emit(
                StepOutputs([RequestOutput(request_id=str(number + part), finish_reason="stop") for part in range(5)])
            )
        await scene.count_turns()
        assert max(map(scene.turns.count, scene.turns)) <= 32

    asyncio.run(play())


def test_outputs_of_requests_that_nobody_waits_for_are_dropped():
    async def play() -> None:
        scene = Scene(engine())
        scene.client.emit(
            StepOutputs([RequestOutput(request_id="gone", new_token_ids=[1])], EngineStatistics(num_running=3), ["gone"])
        )
        await until(lambda: scene.requests.statistics.num_running == 3)
        await asyncio.sleep(0)
        assert scene.client.sent == []
        scene.task.cancel()

    asyncio.run(play())


@pytest.mark.parametrize("is_engines_end", [True, False])
def test_the_engine_is_told_of_an_answer_that_is_complete_without_its_knowing(is_engines_end):
    async def play() -> None:
        scene = Scene(engine(), 2)
        scene.client.emit(StepOutputs([RequestOutput(request_id="1", finish_reason="stop" if is_engines_end else None)]))
        await until(lambda: len(scene.requests.states) == 1)
        assert scene.client.sent == ([] if is_engines_end else [AbortRequests(["1"], are_complete=True)])
        scene.task.cancel()

    asyncio.run(play())


def test_whatever_ends_the_task_is_reported_as_a_death():
    class Unreadable(FakeEngineClient):
        async def receive(self) -> EngineMessage:
            raise ValueError("no such message")

    async def play() -> None:
        files = ModelFiles(name="fake", file_format="fake", path="")
        scene = Scene(Unreadable(settings(), files, describe(files), 256))
        await scene.task
        assert "no such message" in scene.nurse.deaths[0].message

    asyncio.run(play())


def test_it_goes_on_with_the_engine_that_took_a_dead_ones_place():
    async def play() -> None:
        scene = Scene(engine(), num_lives=2)
        scene.client.die()
        lost = WorkersLost("Worker_1", "was killed by signal 9 (SIGKILL)", -9)
        scene.client.emit(lost)
        await until(lambda: bool(scene.nurse.heard))
        assert scene.nurse.heard == [lost]
        assert [death.exit_code for death in scene.nurse.deaths] == [-9]
        scene.client.die()
        await scene.task
        assert len(scene.nurse.deaths) == 2

    asyncio.run(play())
