"""EngineCoreProc on its own: a worker called in place of worker processes, a client on real sockets in the test's folder."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from concurrent.futures import Future

import msgspec
import pytest

from tests.processes.fake_engine import fake_engine_settings
from yeoul import __version__
from yeoul.config.parts import EngineAddresses, WorkerSettings
from yeoul.config.settings import CacheSettings, RecoverySettings, SchedulerSettings, Settings
from yeoul.engine_process.core import EngineCoreProc
from yeoul.errors import GivenUpError, ProcessDeadError
from yeoul.messages.outputs import (
    EngineDead,
    EngineMessage,
    EngineReady,
    RequestOutput,
    StepOutputs,
    UtilityResult,
    WorkersLost,
    WorkersReplaced,
)
from yeoul.messages.requests import AbortRequests, AddRequest, Hello, Shutdown, UtilityCall
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import StepInput, StepResult
from yeoul.recovery import restart_budget
from yeoul.recovery.recovery_report import read_report
from yeoul.scheduler.scheduler import Scheduler
from yeoul.transport.sockets import ClientSockets, EngineInput, EngineOutput, ipc_addresses
from yeoul.worker_process.executor import _worker_settings
from yeoul.worker_process.fake_model import expected_tokens
from yeoul.worker_process.worker import Worker


class InPlaceExecutor:
    """An executor whose worker runs in the calling thread; ``error`` makes the next step fail.

    With ``holds`` steps are computed, in order, when the test calls ``release``. ``limits`` are those of the steps.
    """

    def __init__(self, settings) -> None:
        worker_settings: WorkerSettings = _worker_settings(settings, 0, "", None)
        self.worker = Worker(worker_settings)
        self.error: Exception | None = None
        self.holds = False
        self.held: deque[tuple[Future[StepResult], StepInput]] = deque()
        self.is_stopped = False
        self.limits: list[float] = []
        self.successors: list[InPlaceExecutor] = []  # itself first

    def spawn(self) -> None:
        """Nothing to start."""

    def start(self, on_death):
        self.on_death = on_death
        return [self.worker.load()]

    def allocate_cache(self, num_blocks):
        self.worker.allocate_cache(num_blocks)

    def execute(self, step, limit_seconds):
        self.limits.append(limit_seconds)
        future: Future[StepResult] = Future()
        if self.holds:
            self.held.append((future, step))
        elif self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(self.worker.execute(step))
        return future

    def release(self, compute_seconds):
        future, step = self.held.popleft()
        future.set_result(msgspec.structs.replace(self.worker.execute(step), compute_seconds=compute_seconds))

    def release_all(self):
        """Everything that is held, in order; what comes next is computed at once, and so has to come after it."""
        self.holds = False
        results = [(future, self.worker.execute(step)) for future, step in self.held]
        self.held.clear()
        for future, result in results:
            future.set_result(result)

    def collective_rpc(self, method, arguments):
        return [self.worker.call(method, arguments)]

    def stop(self, *, at_once=False):
        self.is_stopped = True


class Client:
    """The web process's end of the wire, without the web process."""

    def __init__(self, addresses: EngineAddresses) -> None:
        self.sockets = ClientSockets(addresses.input_address, addresses.output_address)

    def say(self, *messages) -> None:
        for message in messages:
            self.sockets.send(msgspec.msgpack.encode(message))

    async def hear(self):
        payload = await asyncio.wait_for(self.sockets.receive(), 10.0)
        return msgspec.msgpack.decode(payload, type=EngineMessage)

    async def hear_until_finished(self, num_requests: int):
        """All outputs until this many requests have ended."""
        outputs: list[RequestOutput] = []
        while sum(output.finish_reason is not None for output in outputs) < num_requests:
            message = await self.hear()
            assert isinstance(message, StepOutputs)
            outputs += message.outputs
        return outputs


def request(request_id="a", max_tokens=4):
    sampling = SamplingParams(seed=1, max_tokens=max_tokens, ignore_eos=True)
    return AddRequest(request_id=request_id, prompt_token_ids=list(b"river"), sampling=sampling)


async def until(condition):
    """Waits for what another thread does."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen within 10 s")


def converse(tmp_path, scenario, expect_error=None, **scheduler):
    """Runs the busy loop in a thread while ``scenario(client, executor, core)`` talks to it, then says Shutdown."""
    input_address, output_address = ipc_addresses(str(tmp_path))
    addresses = EngineAddresses(input_address=input_address, output_address=output_address)
    settings = fake_engine_settings(
        addresses,
        Settings(
            cache=CacheSettings(num_blocks_override=64),
            scheduler=SchedulerSettings(**scheduler),
            recovery=RecoverySettings(recovery_report_dir=str(tmp_path / "reports")),
        ),
    )
    executor = InPlaceExecutor(settings)
    made = [executor]

    def make_executor():
        made.append(InPlaceExecutor(settings))
        return made[-1]

    core = EngineCoreProc(settings, executor, make_executor)
    executor.successors = made
    errors = []

    def busy_loop():
        try:
            core.run_busy_loop()
        except Exception as error:
            errors.append(error)
        finally:
            core.stop()

    async def whole():
        client = Client(addresses)
        core.start()
        thread = threading.Thread(target=busy_loop)
        thread.start()
        try:
            await scenario(client, executor, core)
        finally:
            client.say(Shutdown())
            await asyncio.to_thread(thread.join, 10.0)
            client.sockets.close()
        assert not thread.is_alive()

    asyncio.run(whole())
    assert all(one.is_stopped for one in made)
    assert [type(error) for error in errors] == ([expect_error] if expect_error else [])


@pytest.fixture
def impatient(monkeypatch):
    """A client that never joins is given up at once."""
    monkeypatch.setattr(EngineOutput.send, "__defaults__", (0.2,))


def test_hello_is_answered_with_what_the_engine_has(tmp_path):
    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        ready = await client.hear()
        assert isinstance(ready, EngineReady)
        assert (ready.pid, ready.num_blocks, ready.max_model_len) == (os.getpid(), 64, 512)
        assert [worker.rank for worker in ready.workers] == [0]

    converse(tmp_path, scenario)


def test_a_client_of_another_version_is_told_so(tmp_path):
    async def scenario(client, executor, core):
        client.say(Hello("0.0.0"))
        refusal = await client.hear()
        assert isinstance(refusal, EngineDead)
        assert "0.0.0" in refusal.cause
        assert __version__ in refusal.cause
        client.say(Hello(__version__))
        assert isinstance(await client.hear(), EngineReady)

    converse(tmp_path, scenario)


def test_bytes_that_are_no_message_are_dropped_and_the_next_request_is_served(tmp_path):
    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        await client.hear()
        no_text = msgspec.msgpack.encode(UtilityCall(1, "????")).replace(b"????", b"\xff\xff\xff\xff")
        for garbage in (b"", b"\xc1", b"\x80", b"\x81\xa4type\xa3add", no_text, os.urandom(100)):
            client.sockets.send(garbage)
        client.say(request())
        outputs = await client.hear_until_finished(1)
        assert sum(len(output.new_token_ids) for output in outputs) == 4

    converse(tmp_path, scenario)


def test_a_request_that_the_scheduler_stumbles_over_fails_alone(tmp_path, monkeypatch):
    real_add = Scheduler.add

    def stumbling_add(self, message):
        if message.request_id == "poison":
            raise RuntimeError("stumbled")
        return real_add(self, message)

    monkeypatch.setattr(Scheduler, "add", stumbling_add)

    async def scenario(client, executor, core):
        client.say(Hello(__version__), request("a"), request("poison"), request("b"))
        assert isinstance(await client.hear(), EngineReady)
        outputs = await client.hear_until_finished(3)
        reasons = {output.request_id: output.finish_reason for output in outputs if output.finish_reason}
        assert reasons == {"a": "length", "poison": "error", "b": "length"}

    converse(tmp_path, scenario)


def test_statistics_follow_an_abort_even_if_nothing_else_happens(tmp_path):
    async def scenario(client, executor, core):
        client.say(Hello(__version__), request("a", max_tokens=400))
        assert isinstance(await client.hear(), EngineReady)
        message = await client.hear()
        assert message.statistics.num_running == 1
        client.say(AbortRequests(["a", "never heard of"]))
        while message.statistics is None or message.statistics.num_running > 0:
            message = await client.hear()
        assert message.statistics.num_used_blocks == 0

    converse(tmp_path, scenario)


@pytest.mark.parametrize("is_asynchronous", [True, False])
def test_the_next_step_is_handed_out_while_one_runs_unless_steps_are_long(tmp_path, is_asynchronous):
    async def scenario(client, executor, core):
        executor.holds = True
        client.say(Hello(__version__), request("a", max_tokens=12))
        assert isinstance(await client.hear(), EngineReady)
        most = 2 if is_asynchronous else 1
        for compute_seconds in (0.001, 0.001, 1.0, 1.0, 0.001, 0.001):
            await until(lambda most=most: len(executor.held) == most)
            await asyncio.sleep(0.02)
            assert len(executor.held) == most
            executor.release(compute_seconds)
            await client.hear()
            if compute_seconds > 0.5 and executor.held:
                executor.release(compute_seconds)
                await client.hear()
            most = 2 if is_asynchronous and compute_seconds < 0.5 else 1
        executor.release_all()
        outputs = await client.hear_until_finished(1)
        assert outputs[-1].finish_reason == "length"

    converse(tmp_path, scenario, async_scheduling=is_asynchronous)


def test_an_abort_while_two_steps_are_in_flight_leaves_no_trace(tmp_path):
    async def scenario(client, executor, core):
        executor.holds = True
        client.say(Hello(__version__), request("a", max_tokens=40))
        assert isinstance(await client.hear(), EngineReady)
        await until(lambda: len(executor.held) == 2)
        client.say(AbortRequests(["a"]), request("b", max_tokens=3))
        await until(lambda: core._scheduler.unfinished_request_ids == ["b"])
        executor.release_all()
        outputs = await client.hear_until_finished(1)
        assert {output.request_id for output in outputs} == {"b"}
        assert [token for output in outputs for token in output.new_token_ids] == expected_tokens(
            list(b"river"), request().sampling, 3
        )

    converse(tmp_path, scenario, async_scheduling=True)


@pytest.mark.usefixtures("impatient")
def test_a_new_client_takes_over_and_the_requests_of_the_old_one_are_aborted(tmp_path):
    async def scenario(client, executor, core):
        client.say(Hello(__version__), request("a", max_tokens=400))
        assert isinstance(await client.hear(), EngineReady)
        client.sockets.client_id = b"web-other"
        client.say(Hello(__version__))
        for _ in range(500):
            if not core._scheduler.has_unfinished:
                break
            await asyncio.sleep(0.01)
        assert not core._scheduler.has_unfinished

    converse(tmp_path, scenario)


@pytest.mark.usefixtures("impatient")
def test_a_client_that_another_one_replaces_is_told_so(tmp_path):
    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        assert isinstance(await client.hear(), EngineReady)
        client.sockets.client_id = b"web-other"
        client.say(Hello(__version__))
        message = await client.hear()
        assert isinstance(message, EngineDead)
        assert "another web process" in message.cause

    converse(tmp_path, scenario)


@pytest.mark.usefixtures("impatient")
def test_a_client_of_another_version_takes_nothing_over(tmp_path):
    async def scenario(client, executor, core):
        own_id = client.sockets.client_id
        client.say(Hello(__version__), request("a", max_tokens=400))
        assert isinstance(await client.hear(), EngineReady)
        client.sockets.client_id = b"web-other"
        client.say(Hello("0.0.0"))
        client.sockets.client_id = own_id
        outputs = await client.hear_until_finished(1)
        assert sum(len(output.new_token_ids) for output in outputs) == 400

    converse(tmp_path, scenario)


@pytest.mark.parametrize("thread", ["process_input_sockets", "process_output_sockets"])
def test_a_socket_thread_that_fails_ends_the_engine(tmp_path, monkeypatch, thread):
    def fail(*_):
        raise RuntimeError("stumbled")

    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        await client.hear()
        if thread == "process_input_sockets":
            monkeypatch.setattr(EngineInput, "receive", fail)
            client.say(UtilityCall(1, "ping"))
            message = await client.hear()
            while not isinstance(message, EngineDead):
                client.say(UtilityCall(1, "ping"))
                message = await client.hear()
            assert "process_input_sockets" in message.cause
            assert "stumbled" in message.cause
        else:
            monkeypatch.setattr(EngineOutput, "send", fail)
            client.say(UtilityCall(1, "ping"))
            await asyncio.to_thread(core._output._thread.join, 10.0)

    converse(tmp_path, scenario, expect_error=ProcessDeadError)


def test_calls_that_workers_cannot_answer_are_errors_of_the_call_alone(tmp_path):
    async def scenario(client, executor, core):
        client.say(Hello(__version__), UtilityCall(1, "collective_rpc"), UtilityCall(2, "collective_rpc", ["no_such"]))
        assert isinstance(await client.hear(), EngineReady)
        answers = [await client.hear() for _ in range(2)]
        assert [answer.error is None for answer in answers] == [False, False]

    converse(tmp_path, scenario)


def test_an_emptied_cache_changes_no_answer(tmp_path):
    async def scenario(client, executor, core):
        client.say(Hello(__version__), request("before", 100))
        assert isinstance(await client.hear(), EngineReady)
        expected = await client.hear_until_finished(1)
        client.say(request("during", 100))
        during = [await client.hear()]
        client.say(UtilityCall(1, "collective_rpc", ["reset_cache"]))
        while not isinstance(during[-1], UtilityResult):
            during.append(await client.hear())
        client.say(request("after", 100))
        outputs = [output for message in during[:-1] for output in message.outputs]
        outputs += await client.hear_until_finished(1 if outputs[-1].finish_reason else 2)
        for name in ("during", "after"):
            tokens = [token for output in outputs if output.request_id == name for token in output.new_token_ids]
            assert tokens == [token for output in expected for token in output.new_token_ids]

    converse(tmp_path, scenario)


def test_a_call_is_answered_and_an_unknown_one_names_the_known(tmp_path):
    async def scenario(client, executor, core):
        client.say(Hello(__version__), UtilityCall(1, "ping"), UtilityCall(2, "pong"), UtilityCall(3, "reset_prefix_cache"))
        assert isinstance(await client.hear(), EngineReady)
        answers = [await client.hear() for _ in range(3)]
        assert all(isinstance(answer, UtilityResult) for answer in answers)
        assert [(answer.call_id, answer.value, answer.error is None) for answer in answers] == [
            (1, "pong", True),
            (2, "", False),
            (3, "", True),
        ]
        assert "reset_prefix_cache" in answers[1].error

    converse(tmp_path, scenario)


def test_an_error_of_our_own_ends_the_loop_and_the_client_hears_of_it(tmp_path, monkeypatch):
    def stumble(*_):
        raise RuntimeError("stumbled")

    async def scenario(client, executor, core):
        monkeypatch.setattr(Scheduler, "update", stumble)
        client.say(Hello(__version__), request())
        assert isinstance(await client.hear(), EngineReady)
        message = await client.hear()
        assert isinstance(message, EngineDead)
        assert message.cause == "failed with RuntimeError: stumbled"
        assert "in stumble" in message.details

    converse(tmp_path, scenario, expect_error=RuntimeError)


DEATH = ProcessDeadError("Worker_0", "was killed by signal 9 (SIGKILL)", exit_code=-9)


async def hear_all_until(client, kind):
    """The messages up to the first of this kind, that one last."""
    messages = [await client.hear()]
    while not isinstance(messages[-1], kind):
        messages.append(await client.hear())
    return messages


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
        message = (await hear_all_until(client, EngineDead))[-1]
        assert message.is_final
        assert message.exit_code == -9
        assert "given up after 5 restarts" in message.cause
        assert len(executor.successors) == 6

    converse(tmp_path, scenario, expect_error=GivenUpError)


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
