"""EngineCoreProc on its own: what it answers, and what it makes of a failure of its own."""

from __future__ import annotations

import asyncio
import os

import msgspec
import pytest

from tests.fake_answer import expected_tokens
from tests.unit.engine_process.engine_talk import converse, request, until
from yeoul import __version__
from yeoul.errors import ProcessDeadError
from yeoul.messages.outputs import (
    EngineDead,
    EngineReady,
    UtilityResult,
    WorkersLost,
    WorkersReplaced,
)
from yeoul.messages.requests import AbortRequests, Hello, UtilityCall
from yeoul.messages.steps import CallResult
from yeoul.scheduler.scheduler import Scheduler
from yeoul.transport.sockets import EngineInput, EngineOutput


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


def test_each_output_of_a_request_says_its_turn_and_so_does_an_error(tmp_path, monkeypatch):
    real_add = Scheduler.add

    def stumbling_add(self, message):
        if message.request_id == "poison":
            raise RuntimeError("stumbled")
        return real_add(self, message)

    monkeypatch.setattr(Scheduler, "add", stumbling_add)

    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        for turn, name in enumerate(("a", "b", "poison")):
            client.say(msgspec.structs.replace(request(name), turn=turn))
        unreadable = msgspec.msgpack.encode(msgspec.structs.replace(request("unreadable"), turn=3, tenant="????"))
        client.sockets.send(unreadable.replace(b"????", b"\xff\xff\xff\xff"))
        assert isinstance(await client.hear(), EngineReady)
        outputs = await client.hear_until_finished(4)
        assert {(output.request_id, output.turn) for output in outputs} == {
            ("a", 0),
            ("b", 1),
            ("poison", 2),
            ("unreadable", 3),
        }

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


def test_a_call_that_workers_take_long_for_holds_up_nothing_but_steps(tmp_path):
    async def scenario(client, executor, core):
        executor.holds = True
        client.say(Hello(__version__), UtilityCall(1, "collective_rpc", ["echo", "x"]))
        client.say(request("a"), UtilityCall(2, "ping"))
        assert isinstance(await client.hear(), EngineReady)
        assert (await client.hear()).call_id == 2
        assert not executor.held
        executor.calls[0].set_result([CallResult(1, "x"), CallResult(1, "y")])
        assert (await client.hear()).value == "x\ny"
        await until(lambda: len(executor.held) == 1)
        executor.release_all()
        await client.hear_until_finished(1)

    converse(tmp_path, scenario)


def test_workers_of_which_only_some_did_what_they_were_told_are_replaced(tmp_path):
    async def scenario(client, executor, core):
        executor.holds = True
        client.say(Hello(__version__), request("a"), UtilityCall(1, "collective_rpc", ["reset_cache"]))
        assert isinstance(await client.hear(), EngineReady)
        await until(lambda: len(executor.calls) == 1)
        executor.calls[0].set_result([CallResult(1, "done"), CallResult(1, error="no memory")])
        messages = [await client.hear()]
        while not isinstance(messages[-1], WorkersReplaced):
            messages.append(await client.hear())
        (result,) = [message for message in messages if isinstance(message, UtilityResult)]
        assert result.error == "Worker_1: no memory"
        (lost,) = [message for message in messages if isinstance(message, WorkersLost)]
        assert "disagree" in lost.cause
        await client.hear_until_finished(1)

    converse(tmp_path, scenario)


def test_a_call_of_workers_that_die_is_an_error_and_a_new_client_hears_nothing_of_it(tmp_path):
    async def scenario(client, executor, core):
        executor.holds = True
        client.say(Hello(__version__), UtilityCall(1, "collective_rpc", ["echo"]))
        assert isinstance(await client.hear(), EngineReady)
        await until(lambda: len(executor.calls) == 1)
        executor.calls[0].set_exception(ProcessDeadError("Worker_0", "was killed by signal 9 (SIGKILL)", exit_code=-9))
        assert "SIGKILL" in ((await client.hear()).error or "")
        client.say(request("a"))
        await until(lambda: len(executor.held) == 1)
        executor.release_all()
        await client.hear_until_finished(1)

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
        assert (await client.hear()).begun == ["a"]
        assert (await client.hear()).begun == ["a"], "it may be due to whoever would be next"
        message = await client.hear()
        assert isinstance(message, EngineDead)
        assert message.cause == "failed with RuntimeError: stumbled"
        assert "in stumble" in message.details

    converse(tmp_path, scenario, expect_error=RuntimeError)


def test_whoever_no_step_can_be_made_of_is_named_before_the_end_and_whoever_is_held_back_is_not(tmp_path, monkeypatch):
    schedule = Scheduler.schedule

    def stumble(scheduler):
        step = schedule(scheduler)
        if step is not None:
            raise ValueError("stumbled")

    async def scenario(client, executor, core):
        monkeypatch.setattr(Scheduler, "schedule", stumble)
        suspects = [msgspec.structs.replace(request(name), num_deaths=2) for name in "ab"]
        client.say(Hello(__version__), *suspects, request("c"))
        assert isinstance(await client.hear(), EngineReady)
        begun = (await client.hear()).begun
        assert isinstance(await client.hear(), EngineDead)
        assert begun == ["a"]

    converse(tmp_path, scenario, expect_error=ValueError)
