"""The links between a web process and EngineCore, both ends in one process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import least
from yeoul.errors import ConfigError, TransportClosedError, TransportError
from yeoul.transport.addresses import ipc_addresses, tcp_addresses, unlink_ipc
from yeoul.transport.curve_keys import CurveKeys, load_or_create_keys
from yeoul.transport.sockets import ClientSockets, EngineContext, EngineInput, EngineOutput


class Engine:
    """Both of the engine's ends."""

    def __init__(self, addresses: tuple[str, str], keys: CurveKeys | None = None) -> None:
        self.context = EngineContext(keys)
        self.input = EngineInput(self.context, addresses[0])
        self.output = EngineOutput(self.context, addresses[1])

    def close(self) -> None:
        self.input.close()
        self.output.close()
        self.context.close()


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    opened: list[Engine] = []
    yield opened
    for engine in opened:
        engine.close()


def free_tcp_addresses() -> tuple[str, str]:
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return tcp_addresses(f"tcp://127.0.0.1:{port}")


def test_messages_cross_both_ways_in_order_and_leave_no_name(tmp_path: Path, engines: list[Engine]) -> None:
    async def talk() -> None:
        client = ClientSockets(*ipc_addresses(str(tmp_path)))
        for number in range(5):
            client.send(b"%d" % number)  # before anybody listens
        engines.append(engine := Engine(client.addresses))
        receive = asyncio.to_thread(lambda: [engine.input.receive() for _ in range(6)])
        received = asyncio.ensure_future(receive)
        client.send(b"5")
        assert await received == [(client.client_id, b"%d" % number) for number in range(6)]
        assert engine.output.send(client.client_id, b"out \0 1")
        assert engine.output.send(client.client_id, b"")
        unlink_ipc(client.addresses)
        assert os.listdir(tmp_path) == []
        assert await client.receive() == b"out \0 1"
        assert await client.receive() == b""
        client.send(b"still connected")
        assert (await asyncio.to_thread(engine.input.receive))[1] == b"still connected"
        client.close()
        client.close()

    asyncio.run(talk())


def test_a_new_engine_takes_over_under_new_addresses(tmp_path: Path, engines: list[Engine]) -> None:
    async def talk() -> None:
        for payload in (b"first", b"second"):
            client = ClientSockets(*ipc_addresses(str(tmp_path)))
            engine = Engine(client.addresses)
            engines.append(engine)
            client.send(payload)
            assert (await asyncio.to_thread(engine.input.receive))[1] == payload
            client.close()

    asyncio.run(talk())


def test_what_a_gone_client_would_get_is_dropped_at_once(tmp_path: Path, engines: list[Engine]) -> None:
    async def talk() -> tuple[Engine, bytes]:
        client = ClientSockets(*ipc_addresses(str(tmp_path)))
        engine = Engine(client.addresses)
        assert engine.output.send(client.client_id, b"hello")
        assert await client.receive() == b"hello"
        client.close()
        return engine, client.client_id

    engine, client_id = asyncio.run(talk())
    engines.append(engine)
    deadline = time.monotonic() + 5
    while engine.output.send(client_id, b"into the void"):
        assert time.monotonic() < deadline
        time.sleep(0.01)

    def seconds_for_nobody() -> float:
        start = time.monotonic()
        assert not engine.output.send(b"nobody", b"", connect_timeout_seconds=0.05)
        return time.monotonic() - start

    assert least(seconds_for_nobody, 1.0) < 1.0


def test_the_engine_can_be_woken_from_its_wait(tmp_path: Path, engines: list[Engine]) -> None:
    engines.append(engine := Engine(ipc_addresses(str(tmp_path))))
    threading.Timer(0.05, engine.input.interrupt).start()
    for _ in range(2):
        with pytest.raises(TransportClosedError, match="interrupted"):
            engine.input.receive()


def test_closing_wakes_the_task_that_waits(tmp_path: Path) -> None:
    async def talk() -> None:
        client = ClientSockets(*ipc_addresses(str(tmp_path)))
        waiting = asyncio.ensure_future(client.receive())
        await asyncio.sleep(0.02)
        client.close()
        with pytest.raises(TransportClosedError):
            await waiting
        with pytest.raises(TransportClosedError):
            client.send(b"")

    asyncio.run(talk())


def test_a_cancelled_wait_loses_no_message(tmp_path: Path, engines: list[Engine]) -> None:
    async def talk() -> None:
        client = ClientSockets(*ipc_addresses(str(tmp_path)))
        engines.append(engine := Engine(client.addresses))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.receive(), 0.02)
        engine.output.send(client.client_id, b"later")
        assert await client.receive() == b"later"
        client.close()

    asyncio.run(talk())


def test_a_message_that_comes_in_the_moment_of_a_cancelling_is_the_next_one(tmp_path: Path, engines: list[Engine]) -> None:
    async def scenario() -> None:
        client = ClientSockets(*ipc_addresses(str(tmp_path)))
        engines.append(Engine(client.addresses))
        for num_turns in range(4):  # from before the loop sees the message to after the task has it
            task = asyncio.ensure_future(client.receive())
            await asyncio.sleep(0.01)
            for payload in (b"first", b"second"):
                assert engines[0].output.send(client.client_id, payload)
            time.sleep(0.01)  # noqa: ASYNC251 (the loop is to find both at once)
            for _ in range(num_turns):
                await asyncio.sleep(0)
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            heard = [] if isinstance(result, asyncio.CancelledError) else [result]
            while len(heard) < 2:
                heard.append(await asyncio.wait_for(client.receive(), 5.0))
            assert heard == [b"first", b"second"], num_turns
        client.close()

    asyncio.run(scenario())


def test_tcp_carries_messages_for_those_who_hold_the_keys(tmp_path: Path, engines: list[Engine]) -> None:
    keys = load_or_create_keys(str(tmp_path / "keys"))
    addresses = free_tcp_addresses()

    async def talk() -> None:
        client = ClientSockets(*addresses, keys)
        client.send(b"in")
        engines.append(engine := Engine(addresses, keys))
        assert await asyncio.to_thread(engine.input.receive) == (client.client_id, b"in")
        assert engine.output.send(client.client_id, b"out")
        assert await client.receive() == b"out"
        client.close()

    asyncio.run(talk())


@pytest.mark.parametrize("knows_server", [True, False])
def test_a_client_with_other_keys_is_not_heard(tmp_path: Path, engines: list[Engine], knows_server: bool) -> None:
    keys, foreign = load_or_create_keys(str(tmp_path / "keys")), load_or_create_keys(str(tmp_path / "foreign"))
    server_public = keys.server_public if knows_server else foreign.server_public
    stranger = CurveKeys(server_public, foreign.server_secret, foreign.client_public, foreign.client_secret)
    addresses = free_tcp_addresses()
    engines.append(engine := Engine(addresses, keys))

    async def talk() -> None:
        client = ClientSockets(*addresses, stranger)
        client.send(b"let me in")
        threading.Timer(0.3, engine.input.interrupt).start()
        with pytest.raises(TransportClosedError, match="interrupted"):
            await asyncio.to_thread(engine.input.receive)
        assert not engine.output.send(client.client_id, b"secret", connect_timeout_seconds=0)
        client.close(linger_seconds=0)

    asyncio.run(talk())


def test_tcp_without_keys_is_refused_on_both_sides() -> None:
    addresses = free_tcp_addresses()
    with pytest.raises(ConfigError, match="--engine-key-file"):
        ClientSockets(*addresses)
    context = EngineContext()
    with pytest.raises(ConfigError, match="--engine-key-file"):
        EngineInput(context, addresses[0])
    context.close()


def test_a_port_in_use_is_named(tmp_path: Path, engines: list[Engine]) -> None:
    keys = load_or_create_keys(str(tmp_path / "keys"))
    addresses = free_tcp_addresses()
    engines.append(Engine(addresses, keys))
    context = EngineContext(keys)
    with pytest.raises(ConfigError, match=f"cannot use the address {addresses[0]}: another process uses it"):
        EngineInput(context, addresses[0])
    context.close()


@pytest.mark.parametrize(
    "address",
    ["", "tcp://", "tcp://host", "http://host:1", "tcp://host:x", "tcp://host:70000", "tcp://host:65535", "tcp://h:1/p"],
)
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="expected an engine address such as"):
        tcp_addresses(address)


def test_outputs_take_the_next_port() -> None:
    assert tcp_addresses("tcp://10.0.0.5:5555") == ("tcp://10.0.0.5:5555", "tcp://10.0.0.5:5556")
    assert tcp_addresses("tcp://[::1]:5555") == ("tcp://[::1]:5555", "tcp://[::1]:5556")


def test_what_has_come_before_the_end_is_received_and_then_the_end_is_told_each_time(
    tmp_path: Path, engines: list[Engine]
) -> None:
    async def talk() -> None:
        client = ClientSockets(*ipc_addresses(str(tmp_path)))
        engines.append(engine := Engine(client.addresses))
        for payload in (b"1", b"2", b"3"):
            engine.output.send(client.client_id, payload)
        assert await client.receive() == b"1"
        while client.num_waiting < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        client.close()
        assert [await client.receive(), await client.receive()] == [b"2", b"3"]
        for _ in range(2):
            with pytest.raises(TransportClosedError):
                await client.receive()

    asyncio.run(talk())


def test_no_descriptor_left_is_told_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    async def talk() -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        num_open = len(os.listdir("/proc/self/fd"))
        for num_left in range(40):
            resource.setrlimit(resource.RLIMIT_NOFILE, (num_open + num_left, limits[1]))
            try:
                with contextlib.suppress(TransportError):
                    ClientSockets(*ipc_addresses(str(tmp_path))).close()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert len(os.listdir("/proc/self/fd")) == num_open

    asyncio.run(talk())


@pytest.mark.parametrize("which", [0, 1], ids=["input", "output"])
def test_a_link_that_breaks_shows_on_its_monitor(tmp_path: Path, which: int) -> None:
    keys = load_or_create_keys(str(tmp_path / "keys"))
    addresses = free_tcp_addresses()

    async def talk() -> None:
        client = ClientSockets(*addresses, keys)
        events = client.monitors()
        engine = Engine(addresses, keys)
        client.send(b"hello")
        await asyncio.to_thread(engine.input.receive)
        assert engine.output.send(client.client_id, b"hello")
        assert await client.receive() == b"hello"
        assert not any(one.poll(20) for one in events)
        (engine.input, engine.output)[which].close()
        assert events[which].poll(5000)
        assert not events[1 - which].poll(20)
        (engine.output, engine.input)[which].close()
        engine.context.close()
        client.close()

    asyncio.run(talk())
