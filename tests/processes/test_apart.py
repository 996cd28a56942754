"""A web process apart from its engine, over tcp with CURVE: it works, it is closed to others, and a death is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time

import httpx
import msgspec
import pytest
import zmq

from tests.processes.fake_engine import FILES
from tests.running_server import RunningServer, free_port_pair, title, wait_gone
from yeoul.config.settings import Settings, TransportSettings
from yeoul.engine_process.client import AsyncMPClient
from yeoul.errors import ConfigError
from yeoul.model_files.describe import describe
from yeoul.transport.curve_keys import load_or_create_keys


@pytest.fixture
def keys(tmp_path):
    return str(tmp_path / "engine.keys")


def headless(address, keys, *arguments):
    return RunningServer(
        "--headless", "--engine-address", address, "--engine-key-file", keys, *arguments, ready_line="EngineCore"
    )


def complete(server):
    body = {"model": "fake", "prompt": "river", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=10.0)


def test_a_web_process_serves_from_an_engine_elsewhere_and_another_one_takes_over(keys):
    address = f"tcp://127.0.0.1:{free_port_pair()}"
    with headless(address, keys) as engine:
        texts = []
        for _ in range(2):
            with RunningServer("--engine-address", address, "--engine-key-file", keys) as web:
                assert [title(pid) for pid in web.tree()] == ["yeoul::Web"]
                answer = complete(web)
                assert answer.status_code == 200
                texts.append(answer.json()["choices"][0]["text"])
                os.kill(web.pid, signal.SIGTERM)
                assert web.wait_exit(5.0) == 0
        assert texts[0] == texts[1]
        pids = engine.tree()
        os.kill(engine.pid, signal.SIGTERM)
        assert engine.wait_exit(10.0) == 0
        assert wait_gone(pids, 1.0) == set()


def test_the_end_of_the_engine_ends_the_web_process_with_an_error(keys):
    address = f"tcp://127.0.0.1:{free_port_pair()}"
    with headless(address, keys) as engine, RunningServer("--engine-address", address, "--engine-key-file", keys) as web:
        os.kill(engine.by_title()["yeoul::EngineCore"], signal.SIGKILL)
        assert web.wait_exit(10.0) not in (0, -signal.SIGKILL)
        assert engine.wait_exit(10.0) not in (0, -signal.SIGKILL)


class Passage:
    """What lies between two hosts, for one port: connections to ``port`` are passed on to ``target`` until it is cut."""

    def __init__(self, port: int, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port))
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)

    def cut(self) -> None:
        """As a firewall that has forgotten the flow."""
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.mark.parametrize("link", ["input", "output"])
def test_a_web_process_ends_when_either_of_its_links_alone_breaks(keys, link):
    near, far = free_port_pair(), free_port_pair()
    with headless(f"tcp://127.0.0.1:{far}", keys) as engine:
        passages = {"input": Passage(near, far), "output": Passage(near + 1, far + 1)}
        with RunningServer("--engine-address", f"tcp://127.0.0.1:{near}", "--engine-key-file", keys) as web:
            assert complete(web).status_code == 200
            passages[link].cut()
            assert web.wait_exit(10.0) == 1
            assert "closed the connection" in web.log()
        for passage in passages.values():
            passage.cut()
        assert engine.process.poll() is None


def test_an_engine_apart_that_hangs_ends_the_web_process_once_somebody_waits_for_it(keys):
    address = f"tcp://127.0.0.1:{free_port_pair()}"
    quick = ("--engine-answer-timeout-seconds", "1")
    with (
        headless(address, keys) as engine,
        RunningServer("--engine-address", address, "--engine-key-file", keys, *quick) as web,
    ):
        assert complete(web).status_code == 200
        os.kill(engine.by_title()["yeoul::EngineCore"], signal.SIGSTOP)
        assert complete(web).status_code == 500
        assert web.wait_exit(10.0) == 1
        assert "hangs: it has said nothing" in web.log()


def test_a_signal_ends_a_headless_engine_that_is_still_starting(keys):
    address = f"tcp://127.0.0.1:{free_port_pair()}"
    arguments = ("--headless", "--engine-address", address, "--engine-key-file", keys)
    with RunningServer(*arguments, wait=False) as engine:
        deadline = time.monotonic() + 20.0
        while "yeoul::EngineCore" not in engine.by_title() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(engine.by_title()["yeoul::EngineCore"], signal.SIGSTOP)  # a start that takes long
        pids = engine.tree()
        os.kill(engine.pid, signal.SIGTERM)
        assert engine.wait_exit(5.0) == 0
        assert wait_gone(pids, 1.0) == set()


def test_an_engine_that_serves_another_model_is_refused(keys):
    address = f"tcp://127.0.0.1:{free_port_pair()}"
    other_model = msgspec.structs.replace(describe(FILES), vocab_size=1024)
    settings = Settings(transport=TransportSettings(engine_address=address, engine_key_file=keys))

    async def join():
        client = AsyncMPClient(settings, FILES, other_model, 512)
        try:
            await client.start()
        finally:
            await client.stop()

    with headless(address, keys) as engine:
        with pytest.raises(ConfigError, match="serves another model"):
            asyncio.run(join())
        assert engine.process.poll() is None


def test_a_key_file_that_is_missing_on_the_web_side_is_told_and_not_made(tmp_path):
    path = tmp_path / "mistyped.keys"
    with RunningServer("--engine-address", "tcp://127.0.0.1:5555", "--engine-key-file", str(path), wait=False) as web:
        assert web.wait_exit(20.0) == 2
        assert "mistyped.keys" in web.log().strip().splitlines()[-1]
    assert not path.exists()


def test_an_engine_address_without_keys_is_refused():
    with RunningServer("--engine-address", "tcp://127.0.0.1:5555", wait=False) as web:
        assert web.wait_exit(20.0) == 2
        assert "--engine-key-file" in web.log().strip().splitlines()[-1]


def strangers(keys):
    """Sockets that try to connect without a key, and with a key of their own."""
    context = zmq.Context()
    without_key, own_key = context.socket(zmq.PUSH), context.socket(zmq.PUSH)
    public, secret = zmq.curve_keypair()
    own_key.setsockopt(zmq.CURVE_PUBLICKEY, public)
    own_key.setsockopt(zmq.CURVE_SECRETKEY, secret)
    own_key.setsockopt(zmq.CURVE_SERVERKEY, load_or_create_keys(keys).server_public.encode())
    yield from (without_key, own_key)
    context.destroy(linger=0)


def test_a_stranger_without_the_right_keys_reaches_nothing(keys):
    address = f"tcp://127.0.0.1:{free_port_pair()}"
    with (
        headless(address, keys) as engine,
        RunningServer("--engine-address", address, "--engine-key-file", keys) as web,
    ):
        for stranger in strangers(keys):
            stranger.setsockopt(zmq.IMMEDIATE, 1)  # only a finished handshake counts as connected
            stranger.setsockopt(zmq.SNDTIMEO, 1000)
            stranger.connect(address)
            with pytest.raises(zmq.Again):
                stranger.send_multipart([b"web-stranger", b"\xc1"])
        assert complete(web).status_code == 200
        assert engine.process.poll() is None
