"""The life of the web process over a fake engine: start, failed start, drain, second signal, dead engine, port in use."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.unit.web_process.fake_engine_client import (
    LIMIT_SECONDS,
    FakeEngine,
    settings,
    until,
)
from yeoul.errors import ConfigError, ProcessDeadError
from yeoul.messages.outputs import EngineReady
from yeoul.web_process.fleet.model_fleet import ModelFleet
from yeoul.web_process.http.listening import bind_listeners
from yeoul.web_process.http_server import HttpServer
from yeoul.web_process.server import ServerLife
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.tables import TABLES

Scene = Callable[[FakeEngine, str], Awaitable[None]]


def live(scene: Scene, engine: FakeEngine | None = None) -> int:
    """Runs a server from start to end while the scene plays; returns the exit code."""
    engine = engine or FakeEngine(settings())
    playing: list[asyncio.Task[None]] = []

    def play(ready: EngineReady | None, url: str, page: str | None) -> None:
        assert page == f"{url}/"
        playing.append(asyncio.ensure_future(scene(engine, url)))

    async def run() -> int:
        engine.llm.resolve()
        with Database(None, TABLES) as database:
            life = ServerLife(ModelFleet.of_one(engine.llm), bind_listeners("127.0.0.1", 0), database, play)
            exit_code = await asyncio.wait_for(life.run(), LIMIT_SECONDS)
        for scene_played in playing:
            await scene_played
        return exit_code

    return asyncio.run(run())


def send_signal(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


async def complete(url: str, **fields: object) -> httpx.Response:
    async with httpx.AsyncClient(timeout=LIMIT_SECONDS) as client:
        return await client.post(f"{url}/v1/completions", json={"prompt": "hi"} | fields)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_an_idle_server_ends_it_with_0(number):
    engine = FakeEngine(settings())

    async def scene(engine: FakeEngine, url: str) -> None:
        assert (await complete(url)).json()["choices"][0]["text"] == "hello world"
        send_signal(number)

    assert live(scene, engine) == 0
    assert engine.client.is_stopped


def test_a_drain_finishes_what_runs_and_refuses_what_comes():
    async def scene(engine: FakeEngine, url: str) -> None:
        engine.client.gate.clear()
        running = asyncio.create_task(complete(url))
        await until(lambda: bool(engine.client.added))
        send_signal(signal.SIGTERM)
        await until(lambda: engine.llm.state == "draining")
        refused = await complete(url)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        engine.client.gate.set()
        assert (await running).json()["choices"][0]["text"] == "hello world"

    assert live(scene) == 0


def test_a_drain_has_a_limit_and_says_so_to_those_that_are_cut_off():
    async def scene(engine: FakeEngine, url: str) -> None:
        engine.client.gate.clear()
        running = [asyncio.create_task(complete(url, stream=streams)) for streams in (False, True)]
        await until(lambda: len(engine.client.added) == 2)
        await asyncio.sleep(0.1)  # the stream's first keep-alive
        send_signal(signal.SIGTERM)
        whole, stream = await asyncio.gather(*running)
        assert whole.status_code == 503
        assert "the server stops" in stream.text

    assert live(scene) == 0


def test_a_second_signal_ends_at_once():
    async def scene(engine: FakeEngine, url: str) -> None:
        engine.client.gate.clear()
        running = asyncio.create_task(complete(url))
        await until(lambda: bool(engine.client.added))
        send_signal(signal.SIGTERM)
        await until(lambda: engine.llm.state == "draining")
        send_signal(signal.SIGINT)
        await asyncio.gather(running, return_exceptions=True)

    assert live(scene) == 128 + signal.SIGINT


def test_during_the_drain_delay_it_is_not_ready_and_refuses_nothing():
    engine = FakeEngine(settings(drain_delay_seconds=0.5))

    async def scene(engine: FakeEngine, url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=LIMIT_SECONDS) as client:
            before = await client.get("/health")
            assert "connection" not in before.headers
            send_signal(signal.SIGTERM)
            await until(lambda: engine.llm.state == "draining")
            health, ready = await client.get("/health"), await client.get("/ready")
            assert (health.status_code, ready.status_code) == (200, 503)
            taken = await client.post("/v1/completions", json={"prompt": "hi"})
            assert taken.json()["choices"][0]["text"] == "hello world"
            assert [answer.headers["connection"] for answer in (health, ready, taken)] == ["close"] * 3

    assert live(scene, engine) == 0


def test_what_is_still_taken_during_the_drain_delay_is_finished_after_it():
    engine = FakeEngine(settings(drain_delay_seconds=0.3))

    async def scene(engine: FakeEngine, url: str) -> None:
        engine.client.gate.clear()
        send_signal(signal.SIGTERM)
        await until(lambda: engine.llm.state == "draining")
        late = asyncio.create_task(complete(url))
        await until(lambda: bool(engine.client.added))
        while (await complete(url, prompt=[1 << 40])).status_code == 400:  # no such token: seen only inside the door
            pass
        engine.client.gate.set()
        assert (await late).json()["choices"][0]["text"] == "hello world"

    assert live(scene, engine) == 0


def test_a_second_signal_ends_the_drain_delay_at_once():
    engine = FakeEngine(settings(drain_delay_seconds=60.0))

    async def scene(engine: FakeEngine, url: str) -> None:
        send_signal(signal.SIGTERM)
        await until(lambda: engine.llm.state == "draining")
        send_signal(signal.SIGTERM)

    assert live(scene, engine) == 128 + signal.SIGTERM


def test_a_dead_engine_ends_the_drain_delay_with_its_error():
    engine = FakeEngine(settings(drain_delay_seconds=60.0))

    async def scene(engine: FakeEngine, url: str) -> None:
        send_signal(signal.SIGTERM)
        await until(lambda: engine.llm.state == "draining")
        engine.client.die()

    with pytest.raises(ProcessDeadError, match="Worker_0 was killed by signal 9"):
        live(scene, engine)


def test_a_dead_engine_ends_the_server_with_its_error():
    async def scene(engine: FakeEngine, url: str) -> None:
        engine.client.gate.clear()
        running = asyncio.create_task(complete(url))
        await until(lambda: bool(engine.client.added))
        engine.client.die()
        assert "Worker_0 was killed" in (await running).json()["error"]["message"]

    with pytest.raises(ProcessDeadError, match="Worker_0 was killed by signal 9"):
        live(scene)


@pytest.mark.parametrize("error", [ConfigError("no memory for the cache"), ProcessDeadError("Worker_0", "is gone")])
def test_a_failed_start_is_the_error_of_the_server(error, monkeypatch):
    async def fail(self: object) -> EngineReady:
        raise error

    async def scene(engine: FakeEngine, url: str) -> None:
        raise AssertionError("the server was ready")

    engine = FakeEngine(settings())
    monkeypatch.setattr("tests.unit.web_process.fake_engine_client.FakeEngineClient.start", fail)
    with pytest.raises(type(error), match=str(error)):
        live(scene, engine)
    assert engine.client.is_stopped


def test_a_bad_chat_template_stops_the_start():
    chosen = settings(chat_template="{% if %}")
    with pytest.raises(ConfigError, match="chat-template"):
        live(lambda engine, url: asyncio.sleep(0), FakeEngine(chosen))


def test_a_signal_while_the_engine_loads_ends_with_0(monkeypatch):
    async def load_for_ever(self: object) -> EngineReady:
        send_signal(signal.SIGTERM)
        await asyncio.Event().wait()
        raise AssertionError

    engine = FakeEngine(settings())
    monkeypatch.setattr("tests.unit.web_process.fake_engine_client.FakeEngineClient.start", load_for_ever)
    assert live(lambda engine, url: asyncio.sleep(0), engine) == 0
    assert engine.client.is_stopped


@pytest.fixture
def terminal(monkeypatch):
    """Whether there is a terminal, as often as it is looked for."""
    found = [True]
    monkeypatch.setattr("yeoul.web_process.server.has_terminal", lambda: found[0])
    return found


def test_a_hangup_that_somebody_sends_ends_nothing(terminal):
    async def scene(engine: FakeEngine, url: str) -> None:
        engine.client.gate.clear()
        running = asyncio.create_task(complete(url))
        await until(lambda: bool(engine.client.added))
        for _ in range(2):
            send_signal(signal.SIGHUP)
            await asyncio.sleep(0)
        engine.client.gate.set()
        assert (await running).json()["choices"][0]["text"] == "hello world"
        assert engine.llm.state == "ready"
        send_signal(signal.SIGTERM)

    assert live(scene) == 0


def test_a_terminal_that_was_closed_takes_its_server_with_it_after_a_drain(terminal):
    async def scene(engine: FakeEngine, url: str) -> None:
        engine.client.gate.clear()
        running = asyncio.create_task(complete(url))
        await until(lambda: bool(engine.client.added))
        terminal[0] = False
        send_signal(signal.SIGHUP)
        await until(lambda: engine.llm.state == "draining")
        engine.client.gate.set()
        assert (await running).json()["choices"][0]["text"] == "hello world"

    assert live(scene) == 0


def test_what_shall_not_hear_a_hangup_does_not(terminal):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def scene(engine: FakeEngine, url: str) -> None:
        terminal[0] = False
        send_signal(signal.SIGHUP)
        assert (await complete(url)).status_code == 200
        assert engine.llm.state == "ready"
        send_signal(signal.SIGTERM)

    try:
        assert live(scene) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_server_that_nobody_listens_for_any_longer_ends_with_the_cause(monkeypatch):
    async def stumble(self: HttpServer, counter: int) -> bool:
        raise RuntimeError("stumbled")

    async def scene(engine: FakeEngine, url: str) -> None:
        monkeypatch.setattr(HttpServer, "on_tick", stumble)

    with pytest.raises(ProcessDeadError, match=r"Web lost its task uvicorn .*stumbled"):
        live(scene)
