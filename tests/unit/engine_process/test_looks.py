"""What only looks at EngineCore is answered at once, to its client alone, and cannot do harm."""

from __future__ import annotations

import os

import msgspec
from hypothesis import given, settings

from tests.hostile_bytes import damaged, little_time
from tests.unit.engine_process.engine_talk import Client, converse, request, until
from yeoul import __version__
from yeoul.engine_process.step_log import StepLog
from yeoul.messages.outputs import StepOutputs, UtilityResult
from yeoul.messages.requests import Hello, UtilityCall
from yeoul.messages.steps import ScheduledRequest, StepInput, StepResult
from yeoul.messages.topology import EngineReport, Link, Process, Thread
from yeoul.transport.sockets import EngineOutput

LOOK = UtilityCall(7, "topology")


async def report_of(client: Client) -> EngineReport:
    client.say(LOOK)
    while not isinstance(message := await client.hear(), UtilityResult):
        assert isinstance(message, StepOutputs)
    assert (message.call_id, message.error) == (7, None)
    return msgspec.json.decode(message.value, type=EngineReport)


def test_a_step_that_takes_long_is_told_of_while_it_is_computed(tmp_path):
    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        await client.hear()
        idle = await report_of(client)
        assert not idle.engine.is_computing
        assert idle.engine.last_progress_seconds is None
        executor.holds = True
        client.say(request())
        await until(lambda: executor.held)
        busy = await report_of(client)
        assert busy.engine.is_computing
        assert (busy.engine.step_number, busy.engine.step_num_requests, busy.engine.step_num_tokens) == (0, 1, 5)
        executor.release_all()
        await client.hear_until_finished(1)
        done = await report_of(client)
        assert not done.engine.is_computing
        assert done.engine.step_number == 3
        assert done.engine.last_progress_seconds is not None

    converse(tmp_path, scenario)


def test_engine_core_tells_of_its_own_threads_and_parts(tmp_path):
    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        await client.hear()
        report = await report_of(client)
        (process,) = report.processes
        assert (process.name, process.pid, process.state) == ("EngineCore", os.getpid(), "running")
        assert {"process_input_s", "process_output_"} <= {thread.name for thread in process.threads}
        assert [part.name for part in process.parts] == ["EngineCoreProc", "InPlaceExecutor"]
        assert [link.name for link in report.links] == ["requests", "outputs"]

    converse(tmp_path, scenario)


def test_who_has_not_said_hello_is_told_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(EngineOutput.send, "__defaults__", (0.2,))

    async def scenario(client, executor, core):
        client.say(LOOK)  # before its Hello: dropped
        client.say(Hello(__version__))
        await client.hear()
        client.say(UtilityCall(8, "ping"))
        assert await client.hear() == UtilityResult(8, "pong")

    converse(tmp_path, scenario)


def test_of_two_steps_under_way_the_older_one_is_told():
    log = StepLog()
    for number in range(3):
        step = StepInput(step_number=number, scheduled=[ScheduledRequest("a", 0, number + 1, [])])
        log.note_step(step, 1.0, 0.0)
        if number == 0:
            log.note_result(step, StepResult(0, compute_seconds=0.5), 0, 0.0)
            assert (log.now().is_computing, log.now().step_seconds) == (False, 0.5)
    assert (log.now().step_number, log.now().step_num_tokens, log.now().is_computing) == (1, 2, True)
    log.note_loss()
    assert not log.now().is_computing


REPORT = EngineReport(
    clock=1.5,
    processes=[Process(name="EngineCore", title="t", pid=1, state="running", since=2.0,
                       threads=[Thread(name="a", tid=1, state="running", cpu_seconds=0.5)])],
    links=[Link(name="requests", kind="zmq", source="a", target="b", queue_depth=0)],
)  # fmt: skip


@given(damaged([msgspec.json.encode(REPORT)]))
@settings(max_examples=80)
@little_time(2)
def test_a_damaged_report_is_refused_or_is_one(raw):
    try:
        report = msgspec.json.decode(raw, type=EngineReport)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return
    assert isinstance(report, EngineReport)
