"""Workers that are spoken to over tcp with CURVE: they compute, either link alone is their end, strangers change nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from urllib.parse import urlsplit

import msgspec
import pytest
import zmq

from tests.processes.fake_engine import fake_engine_settings
from tests.processes.test_executor import LIMIT, LINK, Deaths, step
from tests.running_server import alive, thread_names, wait_gone
from tests.tcp_cut import cut, tcp_links_of
from yeoul.config.settings import CacheSettings, ModelSettings, ParallelSettings, Settings, TimeSettings
from yeoul.errors import ConfigError, ProcessDeadError
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import NewRequest, ScheduledRequest, StepInput
from yeoul.transport.curve_keys import new_keys
from yeoul.transport.tcp_channel import TcpHandle
from yeoul.worker_process.arguments import worker_settings
from yeoul.worker_process.executor import executor_maker
from yeoul.worker_process.tcp_links import TcpLinks

PARALLEL = ParallelSettings(tensor_parallel_size=2, distributed_executor_backend="loopback")


def settings_with(**time_settings):
    return fake_engine_settings(
        LINK,
        Settings(
            model=ModelSettings(model="fake"),
            parallel=PARALLEL,
            time=TimeSettings(**time_settings),
            cache=CacheSettings(num_blocks_override=64),
        ),
    )


@contextlib.contextmanager
def running(deaths=None, **time_settings):
    executor = executor_maker(settings_with(**time_settings))()
    try:
        executor.ready = executor.start(deaths or Deaths())  # type: ignore[attr-defined]
        executor.allocate_cache(16)
        yield executor
    finally:
        executor.stop()


def addresses(executor) -> list[str]:
    """Of the links from and to each worker."""
    return [link.address for link in executor.look().links if link.kind == "zmq"]


def test_steps_and_calls_are_answered_and_nothing_is_left_at_the_end():
    deaths = Deaths()
    with running(deaths) as executor:
        pids = [worker.pid for worker in executor.ready]
        result = executor.execute(step(0), LIMIT).result(5.0)
        assert [entry.request_id for entry in result.results] == ["a"]
        assert result.began == 0.0, "the clock of another host tells nothing here"
        assert [answer.value for answer in executor.collective_rpc("echo", ["hello"]).result(5.0)] == ["hello", "hello"]
        request = NewRequest(request_id="long", prompt_token_ids=[7] * 700_000, sampling=SamplingParams(seed=1, max_tokens=1))
        message = StepInput(step_number=5, new_requests=[request], scheduled=[ScheduledRequest("long", 0, 16, [8])])
        assert executor.execute(message, LIMIT).result(10.0).step_number == 5
        assert len(addresses(executor)) == 4
        assert {"WorkerPeerWatch", "MultiprocWorker"} <= set(thread_names(os.getpid()))
        assert all("EngineCoreWatch" in thread_names(pid) for pid in pids)
    assert alive(pids) == set()
    assert deaths.errors == []


@pytest.mark.parametrize(
    "which", [pytest.param(0, id="steps of Worker_0"), pytest.param(3, id="answers of Worker_1", marks=pytest.mark.long)]
)
def test_either_link_alone_is_the_end_of_its_worker_on_both_sides(which):
    deaths = Deaths()
    with running(deaths) as executor:
        rank = which // 2
        port = urlsplit(addresses(executor)[which]).port
        pid = executor.ready[rank].pid
        (descriptor,) = [found for found, peer in tcp_links_of(pid).items() if peer == port]
        future = None
        if which == 0:
            os.kill(executor.ready[1].pid, signal.SIGSTOP)  # so that the step does not end before the link does
            future = executor.execute(step(0), LIMIT)
        cut(pid, descriptor)
        assert deaths.told.wait(5.0)
        assert deaths.errors[0].role == f"Worker_{rank}"
        assert wait_gone([pid], 5.0) == set(), "it does not live on for nobody"
        if future is not None:
            with pytest.raises(ProcessDeadError):
                future.result(5.0)


@pytest.mark.long
def test_a_killed_worker_is_told_of_at_once_and_its_step_fails():
    deaths = Deaths()
    with running(deaths) as executor:
        os.kill(executor.ready[0].pid, signal.SIGSTOP)
        future = executor.execute(step(0), LIMIT)
        os.kill(executor.ready[1].pid, signal.SIGKILL)
        with pytest.raises(ProcessDeadError, match="Worker_1 "):
            future.result(5.0)
        assert deaths.told.wait(5.0)


@pytest.mark.long
def test_a_worker_that_hangs_fails_its_step_in_time():
    with running(min_step_timeout_seconds=0.3, stop_timeout_seconds=0.2) as executor:
        os.kill(executor.ready[0].pid, signal.SIGSTOP)
        with pytest.raises(ProcessDeadError, match="hangs"):
            executor.execute(step(0), 0.5).result(5.0)


def strangers():
    """Each does to a port what strangers do, and leaves."""
    for greeting in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(range(200))):
        yield lambda host, port, greeting=greeting: knock(host, port, greeting)
    for keys in (None, new_keys()):
        yield lambda host, port, keys=keys: shake_hands(host, port, keys)


def knock(host, port, greeting):
    with socket.create_connection((host, port)) as connection:
        connection.sendall(greeting)
        connection.settimeout(0.2)
        with contextlib.suppress(OSError):
            connection.recv(100)


def shake_hands(host, port, keys):
    context = zmq.Context()
    stranger = context.socket(zmq.PUSH)
    stranger.setsockopt(zmq.IMMEDIATE, 1)
    stranger.setsockopt(zmq.SNDTIMEO, 300)
    if keys is not None:
        for option, key in (
            (zmq.CURVE_SERVERKEY, keys.server_public),
            (zmq.CURVE_PUBLICKEY, keys.client_public),
            (zmq.CURVE_SECRETKEY, keys.client_secret),
        ):
            stranger.setsockopt(option, key.encode())
    stranger.connect(f"tcp://{host}:{port}")
    with pytest.raises(zmq.Again):
        stranger.send(b"\xc1")
    context.destroy(linger=0)


def test_strangers_at_the_ports_reach_nothing_and_end_nothing():
    deaths = Deaths()
    with running(deaths) as executor:
        assert executor.execute(step(0), LIMIT).result(5.0).step_number == 0
        parts = urlsplit(addresses(executor)[0])
        assert parts.hostname == "127.0.0.1"
        for stranger in strangers():
            stranger(parts.hostname, parts.port)
        assert executor.execute(step(1, new=False, num_new_tokens=1), LIMIT).result(5.0).step_number == 1
        assert deaths.errors == []


def test_a_worker_that_finds_another_model_under_the_name_is_refused_in_words():
    settings = settings_with()
    other = msgspec.structs.replace(settings.description, vocab_size=1024)
    executor = executor_maker(msgspec.structs.replace(settings, description=other))()
    with pytest.raises(ConfigError, match=r"fake .* is another model than the one of this name where EngineCore runs"):
        executor.start(Deaths())
    executor.stop()


def test_a_stop_while_workers_start_leaves_nothing():
    executor = executor_maker(settings_with())()
    executor.spawn()
    pids = [worker.pid for worker in executor.workers]
    executor.stop(at_once=True)
    assert alive(pids) == set()
    assert threading.active_count() < 20


def test_the_keys_that_a_worker_is_handed_do_not_hold_engine_cores_secret():
    links = TcpLinks(["Worker_0"], "127.0.0.1")
    arguments = links.arguments(worker_settings(settings_with(), 0))
    for handle in (arguments.step_channel, arguments.answer_channel, arguments.meeting):
        assert isinstance(handle, TcpHandle)
        assert handle.keys.server_secret == ""
    links.close()
