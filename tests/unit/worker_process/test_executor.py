"""What the executor makes of answers that differ, of time that was slept through, and of a worker that cannot be killed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import cast

import msgspec
import pytest

from tests.processes.fake_engine import fake_engine_settings
from yeoul.config.parts import EngineAddresses
from yeoul.config.settings import ParallelSettings, Settings
from yeoul.errors import ConfigError, ProcessDeadError, TransportClosedError, TransportTimeoutError
from yeoul.messages.reports import WorkerReady
from yeoul.messages.steps import StepInput, StepResult
from yeoul.worker_process.executor import MultiprocExecutor
from yeoul.worker_process.worker_link import Crew, DeathCallback

LINK = EngineAddresses(input_address="ipc://unused", output_address="ipc://unused")


class Clock:
    """Stands still unless somebody waits."""

    def __init__(self) -> None:
        self.now = self.start = time.monotonic()

    def __call__(self) -> float:
        return self.now


class Ring:
    """Gives answers in turn. A number is a wait that takes so many seconds longer than it was to, and brings nothing.

    It is closed after the last of them.
    """

    def __init__(self, clock: Clock, *events: StepResult | float) -> None:
        self._clock = clock
        self._events = deque(events)

    def receive(self, timeout_seconds: float) -> bytes:
        if not self._events:
            raise TransportClosedError("the test is over")
        event = self._events.popleft()
        if isinstance(event, StepResult):
            return msgspec.msgpack.encode(event)
        self._clock.now += timeout_seconds + event
        raise TransportTimeoutError("nothing came")

    def send(self, payload: bytes, timeout_seconds: float) -> None:
        if self._events:
            self.receive(timeout_seconds)

    def interrupt(self) -> None:
        pass


class Link:
    """A worker that is never found stopped, and does not end when it is killed."""

    pid = 1
    way = "ring"

    def __init__(self, rank: int, ring: Ring) -> None:
        self.role = f"Worker_{rank}"
        self.receive = ring.receive
        self.calls: list[str] = []

    def is_stopped(self) -> bool:
        return False

    def kill(self) -> None:
        self.calls.append("kill")

    def wait(self, timeout_seconds: float | None) -> None:
        assert timeout_seconds is not None, "nobody waits for ever for a process that a driver may hold"

    def close(self) -> bool:
        self.calls.append("close")
        return False


class FakeCrew:
    """Links that lead to no process."""

    def __init__(self, rings: Sequence[Ring], out: Ring) -> None:
        self.links = [Link(rank, ring) for rank, ring in enumerate(rings)]
        self.wire = out
        self.is_closed = self.is_watched = False
        self.ready: list[WorkerReady] = []

    async def wait_until_ready(self, timeout_seconds: float) -> list[WorkerReady]:
        return self.ready

    def watch(self, on_death: DeathCallback) -> None:
        self.is_watched = True

    def unwatch(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made)
    return made


def executor_on(*rings: Ring, out: Ring | None = None) -> MultiprocExecutor:
    settings = Settings(parallel=ParallelSettings(tensor_parallel_size=len(rings)))
    return MultiprocExecutor(fake_engine_settings(LINK, settings), cast("Crew", FakeCrew(rings, out or Ring(Clock()))))


def outcome_of(executor: MultiprocExecutor, limit_seconds: float) -> StepResult:
    """Of step 0, once the thread that collects answers has come to its end, as it does when nothing comes any more."""
    future: Future[StepResult] = executor.execute(StepInput(step_number=0), limit_seconds)
    executor._collect_answers()
    return future.result(timeout=0)


@pytest.mark.parametrize("digests", [(7, 7, 8), (0, 7, 7)])
def test_ranks_that_disagree_are_the_death_of_the_workers(clock, digests):
    rings = [Ring(clock, StepResult(0, digest=digest)) for digest in digests]
    with pytest.raises(ProcessDeadError, match="Workers disagree about step 0"):
        outcome_of(executor_on(*rings), 5.0)


def test_ranks_that_agree_go_on(clock):
    assert outcome_of(executor_on(*(Ring(clock, StepResult(0, digest=7)) for _ in range(3))), 5.0).digest == 7


@pytest.mark.parametrize("num_freezes", [1, 3])
@pytest.mark.parametrize("seconds", [4.0, 20.0, 10_000.0])
def test_time_in_which_everything_stood_still_is_nobodys(clock, num_freezes, seconds):
    ring = Ring(clock, *([0.0, 0.0, seconds] * num_freezes), StepResult(0))
    assert outcome_of(executor_on(ring), 3.0).step_number == 0


@pytest.mark.parametrize("late", [0.0, 0.5])
def test_a_worker_that_says_nothing_hangs_however_slow_the_machine_is(clock, late):
    with pytest.raises(ProcessDeadError, match=r"hangs: EngineCore waits for its answer to step 0 since [3-9]\.\d s"):
        outcome_of(executor_on(Ring(clock, *[late] * 100)), 3.0)
    assert clock.now - clock.start < 10


def test_a_ring_that_stayed_full_while_everything_stood_still_is_waited_for_once_more(clock):
    executor = executor_on(Ring(clock, StepResult(0)), out=Ring(clock, 60.0))
    assert outcome_of(executor, 3.0).step_number == 0
    with pytest.raises(ProcessDeadError, match="took no message for 3"):
        executor_on(Ring(clock), out=Ring(clock, 0.0)).execute(StepInput(step_number=0), 3.0)


def test_a_worker_that_does_not_end_when_it_is_killed_is_left_behind(caplog):
    executor = executor_on(Ring(Clock()))
    executor.stop(at_once=True)
    assert cast("Link", executor.workers[0]).calls == ["kill", "close"]
    assert cast("FakeCrew", executor._crew).is_closed
    assert "does not end; it is left behind" in caplog.text


def ready(rank: int, fingerprint: str) -> WorkerReady:
    return WorkerReady(number=rank, pid=1, device="cpu", max_num_blocks=1, block_bytes=1, model_fingerprint=fingerprint)


def test_ranks_that_would_compute_different_things_are_refused():
    executor = executor_on(Ring(Clock()), Ring(Clock()))
    crew = cast("FakeCrew", executor._crew)
    crew.ready = [ready(0, "fp_a"), ready(1, "fp_b")]
    with pytest.raises(ConfigError, match=r"Worker_1 .* and Worker_0 .* would compute different things \(fp_b and fp_a\)"):
        executor.start(lambda _: None)
    assert not crew.is_watched
    executor.stop()
    assert [link.calls for link in crew.links] == [["kill", "close"]] * 2
