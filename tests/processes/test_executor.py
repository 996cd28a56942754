"""The executor with real worker processes on the fake model: steps, calls, deaths, and what is left afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from tests.patience import least, until
from tests.processes.fake_engine import fake_engine_settings
from tests.running_server import alive, thread_names, wait_gone
from yeoul.config.parts import EngineAddresses
from yeoul.config.settings import CacheSettings, ParallelSettings, Settings, TimeSettings
from yeoul.errors import ProcessDeadError
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import NewRequest, ScheduledRequest, StepInput
from yeoul.worker_process.executor import executor_maker

LIMIT = 10.0  # seconds of a step
LINK = EngineAddresses(input_address="ipc://unused", output_address="ipc://unused")


class Deaths:
    """Collects what the executor reports, with the time."""

    def __init__(self) -> None:
        self.errors: list[ProcessDeadError] = []
        self.told = threading.Event()

    def __call__(self, error: ProcessDeadError) -> None:
        self.errors.append(error)
        self.told.set()


def executor_with(size=2, **time_settings):
    settings = Settings(
        parallel=ParallelSettings(tensor_parallel_size=size),
        time=TimeSettings(**time_settings),
        cache=CacheSettings(num_blocks_override=64),
    )
    return executor_maker(fake_engine_settings(LINK, settings))()


@pytest.fixture
def deaths():
    return Deaths()


@pytest.fixture
def executor(deaths):
    made = executor_with()
    made.ready = made.start(deaths)
    yield made
    made.stop()


def step(number, *, new=True, num_new_tokens=3):
    request = NewRequest(request_id="a", prompt_token_ids=[1, 2, 3], sampling=SamplingParams(seed=1, max_tokens=8))
    scheduled = ScheduledRequest("a", 0 if new else 2 + number, num_new_tokens, [0] if new else [])
    return StepInput(step_number=number, new_requests=[request] if new else [], scheduled=[scheduled])


def test_every_rank_becomes_ready_and_is_a_process_of_its_own(executor):
    assert [worker.number for worker in executor.ready] == [0, 1]
    assert len({worker.pid for worker in executor.ready} | {os.getpid()}) == 3


def test_a_step_is_answered_under_its_number_with_the_token_of_rank_0(executor):
    executor.allocate_cache(16)
    result = executor.execute(step(0), LIMIT).result(5.0)
    assert result.step_number == 0
    assert [entry.request_id for entry in result.results] == ["a"]
    assert len(result.results[0].token_ids) == 1


def test_a_call_is_answered_by_every_rank_in_order(executor):
    answers = executor.collective_rpc("echo", ["hello"]).result(5.0)
    assert [answer.value for answer in answers] == ["hello", "hello"]


def test_a_call_that_no_worker_knows_is_an_error_and_the_workers_go_on(executor):
    answers = executor.collective_rpc("no_such_method", []).result(5.0)
    assert all("no_such_method" in (answer.error or "") for answer in answers)
    executor.allocate_cache(16)
    assert executor.execute(step(0), LIMIT).result(5.0).step_number == 0


def test_a_step_larger_than_a_slot_of_the_ring_arrives(executor):
    executor.allocate_cache(16)
    prompt = [7] * 700_000
    request = NewRequest(request_id="long", prompt_token_ids=prompt, sampling=SamplingParams(seed=1, max_tokens=1))
    message = StepInput(step_number=5, new_requests=[request], scheduled=[ScheduledRequest("long", 0, 16, [0])])
    assert executor.execute(message, LIMIT).result(10.0).step_number == 5


def seconds_until_a_kill_is_told(rank: int) -> float:
    deaths, executor = Deaths(), executor_with()
    pids = [worker.pid for worker in executor.start(deaths)]
    try:
        executor.allocate_cache(16)
        os.kill(pids[1 - rank], signal.SIGSTOP)  # so that the step cannot end before the kill
        future = executor.execute(step(0), LIMIT)
        start = time.monotonic()
        os.kill(pids[rank], signal.SIGKILL)
        assert deaths.told.wait(5.0)
        seconds = time.monotonic() - start
        with pytest.raises(ProcessDeadError, match=f"Worker_{rank} was killed by signal 9"):
            future.result(5.0)
        assert deaths.errors[0].exit_code == -signal.SIGKILL
    finally:
        executor.stop()
    return seconds


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_worker_fails_the_step_in_flight_and_is_reported_within_100_ms(rank):
    assert least(lambda: seconds_until_a_kill_is_told(rank), 0.1) < 0.1


def test_a_worker_that_hangs_in_a_step_fails_it_in_time_even_after_a_long_rest(deaths):
    executor = executor_with(size=1, min_step_timeout_seconds=0.3, stop_timeout_seconds=0.2)
    (ready,) = executor.start(deaths)
    executor.allocate_cache(16)
    time.sleep(0.8)
    assert executor.execute(step(0), LIMIT).result(5.0).step_number == 0
    os.kill(ready.pid, signal.SIGSTOP)
    start = time.monotonic()
    future = executor.execute(step(1, new=False, num_new_tokens=1), 0.5)
    assert until(future.done, 1.5)
    assert time.monotonic() - start > 0.45
    with pytest.raises(
        ProcessDeadError,
        match=r"Worker_0 hangs.* answer to step 1 since 0\.5 s \(Worker_0 was stopped",
    ):
        future.result()
    with pytest.raises(ProcessDeadError, match="hangs"):
        executor.execute(step(2, new=False, num_new_tokens=1), LIMIT).result(5.0)
    executor.stop()


def test_steps_in_flight_are_answered_in_their_order(executor):
    executor.allocate_cache(16)
    futures = [
        executor.execute(step(number, new=number == 0, num_new_tokens=1 if number else 3), LIMIT) for number in range(5)
    ]
    results = [future.result(5.0) for future in futures]
    assert [result.step_number for result in results] == list(range(5))
    assert all(len(result.results[0].token_ids) == 1 for result in results)


def test_stop_leaves_no_process_and_reports_no_death(tmp_path, deaths, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    executor = executor_with()
    pids = [worker.pid for worker in executor.start(deaths)]
    executor.stop()
    assert alive(pids) == set()
    assert deaths.errors == []
    assert [path for path in tmp_path.rglob("*") if path.parent != tmp_path] == []


def test_stop_ends_a_stopped_worker_too(deaths):
    executor = executor_with(stop_timeout_seconds=0.3)
    pids = [worker.pid for worker in executor.start(deaths)]
    os.kill(pids[1], signal.SIGSTOP)
    executor.stop()
    assert wait_gone(pids, 1.0) == set()


def test_a_worker_that_is_killed_while_it_starts_fails_the_start(deaths):
    executor = executor_with()
    executor.spawn()
    os.kill(executor.workers[1].pid, signal.SIGKILL)
    with pytest.raises(ProcessDeadError, match="Worker_1 was killed by signal 9"):
        executor.start(deaths)
    executor.stop()


def test_a_worker_that_is_not_ready_in_time_fails_the_start(deaths):
    executor = executor_with(worker_ready_timeout_seconds=0.2, stop_timeout_seconds=0.2)
    executor.spawn()
    for worker in executor.workers:
        os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(ProcessDeadError, match="not ready within"):
        executor.start(deaths)
    executor.stop()


def test_the_threads_have_their_names(executor):
    executor.collective_rpc("echo", ["x"]).result(5.0)
    assert {"MultiprocWorker", "mp_exec_io_0"} <= set(thread_names(os.getpid()))
