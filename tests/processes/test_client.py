"""AsyncMPClient with a real EngineCore and worker on the fake model: requests, aborts, calls, deaths, nothing left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.patience import until
from tests.processes.fake_engine import FILES
from tests.running_server import alive, descendants, wait_gone
from yeoul.config.settings import CacheSettings, FakeSettings, ModelSettings, Settings, TimeSettings
from yeoul.engine_process.client import AsyncMPClient
from yeoul.engine_process.connection import EngineConnection
from yeoul.errors import ConfigError, ProcessDeadError, RequestFailedError, UnavailableError
from yeoul.messages.outputs import EngineDead, RequestOutput, StepOutputs
from yeoul.messages.requests import AbortRequests, AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.describe import describe


def client_with(max_model_len=512, num_blocks=256, step_seconds=0.0, **time_settings):
    settings = Settings(
        model=ModelSettings(max_model_len=max_model_len),
        cache=CacheSettings(num_blocks_override=num_blocks),
        fake=FakeSettings(fake_step_seconds=step_seconds),
        time=TimeSettings(**time_settings),
    )
    return AsyncMPClient(settings, FILES, describe(FILES), max_model_len)


def request(request_id, max_tokens=8, prompt=b"river"):
    sampling = SamplingParams(seed=1, max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
    return AddRequest(request_id=request_id, prompt_token_ids=list(prompt), sampling=sampling)


async def collect(client, *request_ids):
    """The tokens and the last output of each request, once all have finished."""
    tokens: dict[str, list[int]] = {request_id: [] for request_id in request_ids}
    last: dict[str, RequestOutput] = {}
    while len(last) < len(request_ids):
        message = await asyncio.wait_for(client.receive(), 10.0)
        assert isinstance(message, StepOutputs), message
        for output in message.outputs:
            tokens[output.request_id] += output.new_token_ids
            if output.finish_reason is not None:
                last[output.request_id] = output
    return tokens, last


def run(scenario, **arguments):
    """Runs a scenario with a started client; afterwards no child, no folder and no descriptor is left."""

    async def whole() -> None:
        client = client_with(**arguments)
        await client.start()
        try:
            await scenario(client)
        finally:
            await client.stop()

    gc.collect()  # what earlier tests have left to be collected is not counted
    num_descriptors = len(os.listdir("/proc/self/fd"))
    asyncio.run(whole())
    assert descendants(os.getpid()) == [os.getpid()]
    assert len(os.listdir("/proc/self/fd")) == num_descriptors


def test_a_request_gets_its_tokens_and_ends():
    async def scenario(client):
        client.send(request("a"))
        tokens, last = await collect(client, "a")
        assert len(tokens["a"]) == 8
        assert last["a"].finish_reason == "length"

    run(scenario)


def test_equal_requests_get_equal_tokens_alone_and_in_a_crowd():
    async def scenario(client):
        client.send(request("alone", 32))
        alone_tokens, _ = await collect(client, "alone")
        names = [f"crowd-{number}" for number in range(20)]
        for name in names:
            client.send(request(name, 32))
        crowd, _ = await collect(client, *names)
        assert all(tokens == alone_tokens["alone"] for tokens in crowd.values())

    run(scenario)


def test_an_aborted_request_frees_its_blocks():
    async def scenario(client):
        client.send(request("a", max_tokens=400))
        message = await client.receive()
        assert message.statistics.num_used_blocks > 0
        client.send(AbortRequests(["a"]))
        while message.statistics is None or message.statistics.num_used_blocks > 0:
            message = await asyncio.wait_for(client.receive(), 5.0)

    run(scenario, step_seconds=0.01)


def test_a_request_that_is_sent_twice_is_computed_once():
    async def scenario(client):
        for request_id in ("a", "a", "b"):
            client.send(request(request_id, 32))
        tokens, last = await collect(client, "a", "b")
        assert [output.fault for output in last.values()] == [None, None]
        assert list(map(len, tokens.values())) == [32, 32]

    run(scenario, step_seconds=0.005)


def test_a_utility_call_is_answered_and_an_unknown_one_is_an_error():
    async def scenario(client):
        loop = asyncio.create_task(client.receive())
        assert await client.call("ping") == "pong"
        assert await client.call("collective_rpc", ["echo", "x"])
        with pytest.raises(RequestFailedError, match="no_such"):
            await client.call("no_such")
        loop.cancel()

    run(scenario)


def test_nothing_of_a_ready_engine_has_a_name_in_the_file_system(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    async def scenario(client):
        assert [path for path in tmp_path.rglob("*") if path.name != f"yeoul-{os.getuid()}"] == []

    run(scenario)


async def hear_of_death(client) -> EngineDead:
    message = await client.receive()
    while isinstance(message, StepOutputs):
        message = await client.receive()
    assert isinstance(message, EngineDead)
    return message


def test_a_death_is_the_last_thing_that_is_received():
    async def scenario(client):
        client.send(request("a", max_tokens=400))
        await client.receive()
        pids = descendants(os.getpid())[1:]
        os.kill(client.engine_pid, signal.SIGKILL)
        hearing = asyncio.create_task(hear_of_death(client))
        assert await asyncio.to_thread(until, hearing.done, 0.5)
        message = hearing.result()
        assert message.role == "EngineCore"
        assert "signal 9 (SIGKILL)" in message.cause
        assert await asyncio.to_thread(wait_gone, pids, 2.0) == set()

    run(scenario, step_seconds=0.01)


def test_a_replaced_engine_has_heard_of_nothing_and_answers():
    async def scenario(client):
        client.send(request("a", max_tokens=400))
        await client.receive()
        old = descendants(os.getpid())[1:]
        os.kill(client.engine_pid, signal.SIGKILL)
        while not isinstance(await client.receive(), EngineDead):
            continue
        ready = await client.replace()
        assert ready.pid == client.engine_pid
        assert await asyncio.to_thread(wait_gone, old, 2.0) == set()
        client.send(request("a", max_tokens=3))
        outputs: list[RequestOutput] = []
        while not (outputs and outputs[-1].finish_reason):
            outputs += (await asyncio.wait_for(client.receive(), 5.0)).outputs
        assert sum(len(output.new_token_ids) for output in outputs) == 3

    run(scenario, step_seconds=0.01)


def no_memory(*_, **__):
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def no_room(path, *_):
    raise OSError(errno.EEXIST if Path(path).exists() else errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_thread(*_):
    raise RuntimeError("can't start new thread")


def no_object(*_, **__):
    raise MemoryError


CANNOT_START = {
    "no memory for a process": (subprocess, "Popen", no_memory, "Cannot allocate memory"),
    "no interpreter": (sys, "executable", "/nonexistent/python", "No such file"),
    "no room for the folder": (os, "mkdir", no_room, "No space left"),
    "no memory for the child's start": (os, "memfd_create", no_memory, "Cannot allocate memory"),
    "no pipe": (os, "pipe", no_memory, "Cannot allocate memory"),
    "no event": (os, "eventfd", no_memory, "Cannot allocate memory"),
    "no thread": (threading.Thread, "start", no_thread, "can't start new thread"),
    "no memory at all": (EngineConnection, "_start_monitor", no_object, "could not be started"),
}


@pytest.mark.parametrize("why", CANNOT_START)
def test_an_engine_that_cannot_be_started_counts_as_dead_and_a_later_start_works(monkeypatch, why):
    owner, name, instead, told = CANNOT_START[why]

    async def scenario(client):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, instead)
            for _ in range(2):
                with pytest.raises(ProcessDeadError, match=told):
                    await client.replace()
        await client.replace()
        client.send(request("a", 3))
        tokens, _ = await collect(client, "a")
        assert len(tokens["a"]) == 3

    run(scenario)


def test_without_a_descriptor_left_no_engine_is_started_and_none_is_leaked():
    async def scenario(client):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        num_open = len(os.listdir("/proc/self/fd"))
        for num_left in range(0, 60, 3):
            resource.setrlimit(resource.RLIMIT_NOFILE, (num_open + num_left, limits[1]))
            try:
                with contextlib.suppress(ProcessDeadError):
                    await client.replace()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        await client.replace()

    run(scenario)


def test_what_is_sent_and_called_while_an_engine_starts_is_refused_at_once():
    async def scenario(client):
        replacing = asyncio.create_task(client.replace())
        while client.engine_pid == client.ready.pid or client.engine_pid is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        client.send(AbortRequests(["a"]))
        with pytest.raises(UnavailableError):
            await client.call("ping")
        await replacing
        receiving = asyncio.create_task(client.receive())
        assert await client.call("ping") == "pong"
        receiving.cancel()

    run(scenario)


def test_a_stop_while_another_engine_starts_does_not_wait_for_the_dead_ones_word():
    async def scenario(client):
        replacing = asyncio.create_task(client.replace())
        while client.engine_pid == client.ready.pid or client.engine_pid is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        replacing.cancel()
        await asyncio.gather(replacing, return_exceptions=True)
        await asyncio.wait_for(client.stop(), 60.0)

    run(scenario, stop_timeout_seconds=600.0)


def test_a_death_that_is_reported_late_is_not_the_next_engines():
    async def scenario(client):
        old = client._connection
        await client.replace()
        old.die(ProcessDeadError("EngineCore", "was told late"))
        client.send(request("a", 3))
        tokens, _ = await collect(client, "a")
        assert len(tokens["a"]) == 3

    run(scenario)


def test_a_cancelled_start_leaves_no_thread_behind():
    async def scenario(client):
        names = {thread.name for thread in threading.enumerate()} - {"MPClientEngineMonitor"}
        replacing = asyncio.create_task(client.replace())
        while client.engine_pid == client.ready.pid or client.engine_pid is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        replacing.cancel()
        await asyncio.gather(replacing, return_exceptions=True)
        assert {thread.name for thread in threading.enumerate()} == names

    run(scenario)


def test_a_pending_call_fails_when_the_engine_dies():
    async def scenario(client):
        os.kill(client.engine_pid, signal.SIGSTOP)
        receiving = asyncio.create_task(client.receive())
        call = asyncio.create_task(client.call("ping"))
        await asyncio.sleep(0.05)
        os.kill(client.engine_pid, signal.SIGKILL)
        with pytest.raises(ProcessDeadError):
            await asyncio.wait_for(call, 5.0)
        assert isinstance(await receiving, EngineDead)

    run(scenario)


def test_a_stopped_engine_is_ended_by_stop():
    async def scenario(client):
        os.kill(client.engine_pid, signal.SIGSTOP)

    run(scenario, stop_timeout_seconds=0.2)


def test_a_stop_that_was_cancelled_is_finished_by_the_next_one():
    async def scenario(client):
        os.kill(client.engine_pid, signal.SIGSTOP)
        stopping = asyncio.create_task(client.stop())
        await asyncio.sleep(0.05)
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        assert client.engine_pid is not None
        await client.stop()
        assert client.engine_pid is None  # the number may be another process's by now

    run(scenario, stop_timeout_seconds=0.2)


def test_a_call_to_a_dead_engine_fails_at_once():
    async def scenario(client):
        os.kill(client.engine_pid, signal.SIGKILL)
        assert isinstance(await client.receive(), EngineDead)
        with pytest.raises(ProcessDeadError):
            await asyncio.wait_for(client.call("ping"), 5.0)

    run(scenario)


def test_a_cache_that_is_too_small_is_the_users_mistake():
    async def scenario():
        client = client_with(num_blocks=2)
        with pytest.raises(ConfigError, match="--kv-cache-memory-bytes"):
            await client.start()
        await client.stop()

    asyncio.run(scenario())
    assert alive(descendants(os.getpid())[1:]) == set()
