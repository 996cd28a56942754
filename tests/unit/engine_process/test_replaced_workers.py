"""EngineCoreProc replaces workers that die: what ran goes on, who kills is found, and at last it gives up."""

from __future__ import annotations

import time
from concurrent.futures import Future

import pytest

from tests.fake_answer import expected_tokens
from tests.unit.engine_process.engine_talk import InPlaceExecutor, converse, request, until
from yeoul import __version__
from yeoul.config.settings import CacheSettings
from yeoul.errors import GivenUpError, ProcessDeadError
from yeoul.messages.outputs import (
    EngineDead,
    EngineReady,
    RequestFault,
    RequestOutput,
    StepOutputs,
    WorkersLost,
    WorkersReplaced,
)
from yeoul.messages.requests import AbortRequests, Hello, Shutdown
from yeoul.messages.steps import RequestResult, StepResult
from yeoul.recovery import restart_budget
from yeoul.recovery.recovery_report import read_report
from yeoul.worker_process.fake_model_runner import FakeModelRunner

DEATH = ProcessDeadError("Worker_0", "was killed by signal 9 (SIGKILL)", exit_code=-9)


async def hear_all_until(client, kind):
    """The messages up to the first of this kind, that one last."""
    messages = [await client.hear()]
    while not isinstance(messages[-1], kind):
        messages.append(await client.hear())
    return messages


@pytest.mark.parametrize("num_tokens", [0, 3])
def test_the_client_is_told_what_workers_may_have_died_of(tmp_path, num_tokens):
    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        assert isinstance(await client.hear(), EngineReady)
        executor.holds = True
        client.say(request("a", max_tokens=20))
        await until(lambda: len(executor.held) == 1)
        for _ in range(num_tokens):
            executor.release(0.001)
            await until(lambda: len(executor.held) == 1)
        executor.held.popleft()[0].set_exception(DEATH)
        executor.on_death(DEATH)
        lost = (await hear_all_until(client, WorkersLost))[-1]
        assert lost.suspect_ids == ([] if num_tokens else ["a"])

    converse(tmp_path, scenario)


@pytest.mark.parametrize("where", ["in a step", "while idle"])
def test_workers_that_die_are_replaced_and_what_ran_goes_on(tmp_path, where):
    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        assert isinstance(await client.hear(), EngineReady)
        if where == "in a step":
            executor.holds = True
            client.say(request("a", max_tokens=20))
            await until(lambda: len(executor.held) == 1)
            for _ in range(5):
                executor.release(0.001)
                await until(lambda: len(executor.held) == 1)
            executor.held.popleft()[0].set_exception(DEATH)
        executor.on_death(DEATH)
        messages = await hear_all_until(client, WorkersReplaced)
        assert [message.role for message in messages if isinstance(message, WorkersLost)] == ["Worker_0"]
        if where == "while idle":
            client.say(request("a", max_tokens=20))
        outputs = [output for message in messages if isinstance(message, StepOutputs) for output in message.outputs]
        outputs += await hear_outputs_until_finished(client)
        tokens = [token for output in outputs for token in output.new_token_ids]
        assert tokens == expected_tokens(list(b"river"), request().sampling, 20)
        assert executor.is_stopped
        assert len(executor.successors) == 2
        (path,) = (tmp_path / "reports").iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
        report = read_report(str(path))
        assert (report.role, report.exit_code) == ("Worker_0", -9)
        if where == "in a step":
            assert [one.request_id for one in report.requests] == ["a"]
            assert report.requests[0].output_token_ids == tokens[:5]
            assert [step.num_tokens for step in report.last_steps] == [{"a": 5}, *[{"a": 1}] * 5]
            assert [step.seconds for step in report.last_steps] == [*[0.001] * 5, None]

    converse(tmp_path, scenario)


async def hear_outputs_until_finished(client):
    outputs: list[RequestOutput] = []
    while not any(output.finish_reason for output in outputs):
        message = await client.hear()
        outputs += message.outputs if isinstance(message, StepOutputs) else []
    return outputs


def test_what_dead_workers_leave_behind_kills_nobody_else(tmp_path):
    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        assert isinstance(await client.hear(), EngineReady)
        for _ in range(3):
            executor.on_death(DEATH)
        await hear_all_until(client, WorkersReplaced)
        client.say(request())
        assert [output.finish_reason for output in await hear_outputs_until_finished(client)][-1] == "length"
        assert len(executor.successors) == 2

    converse(tmp_path, scenario)


def test_a_request_that_kills_every_worker_fails_alone(tmp_path, monkeypatch):
    real_execute = InPlaceExecutor.execute

    def execute(self, step, limit_seconds):
        if any(entry.request_id == "poison" for entry in step.scheduled):
            future: Future[StepResult] = Future()
            future.set_exception(DEATH)
            return future
        return real_execute(self, step, limit_seconds)

    monkeypatch.setattr(InPlaceExecutor, "execute", execute)

    async def scenario(client, executor, core):
        client.say(Hello(__version__), request("a"), request("b"), request("poison"), request("c"))
        assert isinstance(await client.hear(), EngineReady)
        outputs: list[RequestOutput] = []
        while sum(output.finish_reason is not None for output in outputs) < 4:
            message = await client.hear()
            outputs += message.outputs if isinstance(message, StepOutputs) else []
            if isinstance(message, WorkersLost) and "poison" not in message.suspect_ids:
                assert any(output.fault for output in outputs), "it would be given to other engines"
        faults = {output.request_id: output.fault.message for output in outputs if output.fault}
        assert list(faults) == ["poison"]
        assert "SIGKILL" in faults["poison"]
        for name in ("a", "b", "c"):
            tokens = [token for output in outputs if output.request_id == name for token in output.new_token_ids]
            assert tokens == expected_tokens(list(b"river"), request().sampling, 4)

    converse(tmp_path, scenario)


def test_workers_that_die_whatever_they_do_are_given_up_with_the_last_cause(tmp_path, monkeypatch):
    monkeypatch.setattr(restart_budget, "_FIRST_PAUSE_SECONDS", 0.001)

    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        assert isinstance(await client.hear(), EngineReady)

        def fail(self, on_death):
            raise DEATH

        monkeypatch.setattr(InPlaceExecutor, "start", fail)
        executor.on_death(DEATH)
        messages = await hear_all_until(client, EngineDead)
        assert sum(isinstance(message, WorkersLost) for message in messages) == 6, "a sign of life an attempt"
        message = messages[-1]
        assert message.is_final
        assert message.exit_code == -9
        assert "given up after 5 restarts" in message.cause
        assert len(executor.successors) == 6

    converse(tmp_path, scenario, expect_error=GivenUpError)


@pytest.mark.parametrize("makes_tokens", [True, False])
def test_deaths_count_from_the_last_token_on_and_a_fault_is_none(tmp_path, monkeypatch, makes_tokens):
    monkeypatch.setattr(restart_budget, "_FIRST_PAUSE_SECONDS", 0.001)
    real_execute = InPlaceExecutor.execute

    def execute(self, step, limit_seconds):
        names = [entry.request_id for entry in step.scheduled]
        if makes_tokens or set(names) <= {"warm-up"}:
            return real_execute(self, step, limit_seconds)
        future: Future[StepResult] = Future()
        future.set_result(
            StepResult(step.step_number, [RequestResult(name, fault=RequestFault("injected")) for name in names])
        )
        return future

    monkeypatch.setattr(InPlaceExecutor, "execute", execute)

    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        assert isinstance(await client.hear(), EngineReady)
        num_deaths, last = 0, None
        while num_deaths < 8 and not isinstance(last, EngineDead):
            client.say(request(f"r{num_deaths}", max_tokens=1))
            (output,) = await hear_outputs_until_finished(client)
            assert (output.fault is None) == makes_tokens
            executor.successors[-1].on_death(DEATH)
            *_, last = await hear_all_until(client, WorkersReplaced | EngineDead)
            num_deaths += 1
        assert num_deaths == (8 if makes_tokens else 6)

    converse(tmp_path, scenario, expect_error=None if makes_tokens else GivenUpError)


def test_a_step_may_take_a_while_and_twenty_times_what_is_expected(tmp_path):
    async def scenario(client, executor, core):
        executor.holds = True
        client.say(Hello(__version__), request("a", max_tokens=4))
        assert isinstance(await client.hear(), EngineReady)
        for _ in range(4):
            await until(lambda: len(executor.held) == 1)
            executor.release(0.5)
        await client.hear_until_finished(1)
        assert 5.0 < executor.limits[-1] < 5.0 + 20 * 0.5 + 0.1

    converse(tmp_path, scenario)


def test_what_a_client_says_while_workers_are_replaced_is_heard_before_the_next_step(tmp_path, monkeypatch):
    start = InPlaceExecutor.start

    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        assert isinstance(await client.hear(), EngineReady)
        executor.holds = True
        client.say(request("left"), request("stays"))
        await until(lambda: len(executor.held) == 1)

        def start_slowly(self, on_death):
            client.say(AbortRequests(["left"]))
            deadline = time.monotonic() + 5.0
            while core._arrivals.empty() and time.monotonic() < deadline:
                time.sleep(0.001)
            return start(self, on_death)

        monkeypatch.setattr(InPlaceExecutor, "start", start_slowly)
        executor.on_death(DEATH)
        await hear_all_until(client, WorkersReplaced)
        outputs = await hear_outputs_until_finished(client)
        assert {output.request_id for output in outputs} == {"stays"}

    converse(tmp_path, scenario)


def test_a_shutdown_that_comes_while_workers_are_replaced_ends_the_loop(tmp_path, monkeypatch):
    start = InPlaceExecutor.start

    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        assert isinstance(await client.hear(), EngineReady)

        def start_slowly(self, on_death):
            client.say(Shutdown())
            deadline = time.monotonic() + 5.0
            while core._arrivals.empty() and time.monotonic() < deadline:
                time.sleep(0.001)
            return start(self, on_death)

        monkeypatch.setattr(InPlaceExecutor, "start", start_slowly)
        executor.on_death(DEATH)
        await hear_all_until(client, WorkersReplaced)

    converse(tmp_path, scenario)


def test_workers_that_die_whatever_they_are_given_are_given_up_before_everybody_is_blamed(tmp_path, monkeypatch):
    real_execute = InPlaceExecutor.execute

    def execute(self, step, limit_seconds):
        if all(entry.request_id == "warm-up" for entry in step.scheduled):
            return real_execute(self, step, limit_seconds)
        future: Future[StepResult] = Future()
        future.set_exception(DEATH)
        return future

    monkeypatch.setattr(InPlaceExecutor, "execute", execute)

    async def scenario(client, executor, core):
        client.say(Hello(__version__), *(request(f"r{number}") for number in range(64)))
        assert isinstance(await client.hear(), EngineReady)
        messages = await hear_all_until(client, EngineDead)
        assert messages[-1].is_final
        assert "in a row that brought no token" in messages[-1].cause
        outputs = [output for message in messages if isinstance(message, StepOutputs) for output in message.outputs]
        assert len(outputs) <= 6, "so many seemed to be to blame"
        assert len(executor.successors) <= 30

    converse(tmp_path, scenario, expect_error=GivenUpError)


def test_model_files_that_were_touched_cost_what_is_kept_and_nothing_else(tmp_path, monkeypatch, caplog):
    async def scenario(client, executor, core):
        client.say(Hello(__version__), request("a", max_tokens=20))
        assert isinstance(await client.hear(), EngineReady)
        await hear_outputs_until_finished(client)
        assert core._scheduler.statistics().max_num_tier_blocks > 0
        monkeypatch.setattr(FakeModelRunner, "cache_key", lambda self: "of other times")
        executor.on_death(DEATH)
        await hear_all_until(client, WorkersReplaced)
        client.say(request("b", max_tokens=20))
        outputs = await hear_outputs_until_finished(client)
        tokens = [token for output in outputs for token in output.new_token_ids]
        assert tokens == expected_tokens(list(b"river"), request().sampling, 20)
        assert core._scheduler.statistics().max_num_tier_blocks == 0
        assert len(executor.successors) == 2
        assert "kept no longer" in caplog.text

    cache = CacheSettings(num_blocks_override=64, block_size=4, kv_memory_bytes=1 << 20)
    converse(tmp_path, scenario, cache=cache, check_invariants=True)
