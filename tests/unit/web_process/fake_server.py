"""The HTTP server over a fake engine, on a loopback socket of the test's own loop; and clients for it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import openai

from tests.documented_answers import Document, Recorder
from tests.unit.web_process.fake_engine_client import (
    LIMIT_SECONDS,
    FakeEngine,
    FakeEngineClient,
    settings,
)
from tests.unit.web_process.fake_engine_client import until as until
from yeoul.config.settings import ParallelSettings, Settings
from yeoul.web_process.app import build_routes
from yeoul.web_process.fleet.model_fleet import ModelFleet
from yeoul.web_process.http.listening import bind_listeners, url_of
from yeoul.web_process.http_server import HttpServer
from yeoul.web_process.operations.metrics import Metrics, render_all
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.siblings import NO_SIBLINGS, Siblings
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.tables import TABLES


@functools.cache
def documented(num_engines: int = 1) -> Document:
    """What all servers with so many engines say of their routes."""
    chosen = msgspec.structs.replace(settings(), parallel=ParallelSettings(data_parallel_size=num_engines))
    llm = FakeEngine(chosen).llm
    llm.resolve()
    with contextlib.closing(Database(chosen.store.data_dir, TABLES)) as database:
        routes = build_routes(ServerContext(ModelFleet.of_one(llm), chosen, database))
    return Document(routes.openapi())


class FakeServer:
    """``async with FakeServer() as server``; ``server.http`` is an httpx client, ``server.openai`` OpenAI's own."""

    def __init__(
        self, chosen: Settings | None = None, *, starts_engine: bool = True, siblings: Siblings = NO_SIBLINGS
    ) -> None:
        self.settings = chosen or settings()
        self.engine = FakeEngine(self.settings)
        self._starts_engine = starts_engine
        self._siblings = siblings

    @property
    def client(self) -> FakeEngineClient:
        return self.engine.client

    async def __aenter__(self) -> FakeServer:
        llm = self.engine.llm
        llm.resolve()
        fleet = ModelFleet.of_one(llm)
        if self._starts_engine:
            await fleet.start()
        metrics = Metrics(fleet.models[0])
        llm.observer = metrics
        listeners = bind_listeners(self.settings.server.host, 0)
        self.url = url_of(listeners)
        self.port = listeners[0].getsockname()[1]
        self._database = Database(self.settings.store.data_dir, TABLES, self._siblings)
        self.context = ServerContext(
            fleet,
            self.settings,
            self._database,
            functools.partial(render_all, fleet.models, [metrics]),
            siblings=self._siblings,
        )
        self._server = HttpServer(self.context, listeners)
        num_engines = self.settings.parallel.data_parallel_size
        judge = documented(num_engines) if num_engines > 1 else documented()
        self._recorder = Recorder(self._server.config.loaded_app, judge)
        self._server.config.loaded_app = self._recorder
        self._serving = self._server.start()
        self.http = httpx.AsyncClient(base_url=self.url, timeout=LIMIT_SECONDS)
        key = self.settings.server.api_key[0] if self.settings.server.api_key else "none"
        self.openai = openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=LIMIT_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        await self.openai.close()
        self._server.stop(0.5)
        await self.engine.llm.shutdown()
        await self._serving
        self._database.close()
        assert not self._recorder.problems, "\n".join(self._recorder.problems)

    @property
    def prompt(self) -> str:
        """What the engine was given last."""
        return bytes(self.client.added[-1].prompt_token_ids).decode()

    @property
    def write_buffer_sizes(self) -> list[int]:
        """Bytes that wait in this process to be sent, for each connection."""
        connections = self._server.server_state.connections
        return [connection.transport.get_write_buffer_size() for connection in connections]

    async def complete(self, **fields: object) -> httpx.Response:
        return await self.http.post("/v1/completions", json={"prompt": "hi", **fields})

    async def chat(self, **fields: object) -> httpx.Response:
        messages = [{"role": "user", "content": "hi"}]
        return await self.http.post("/v1/chat/completions", json={"messages": messages, **fields})


class LastingServer:
    """One server for many scenes, for tests that leave nothing behind in it."""

    def __init__(self, chosen: Settings | None = None) -> None:
        self._chosen = chosen

    def __enter__(self) -> LastingServer:
        self._runner = asyncio.Runner()
        self._server = self._runner.run(FakeServer(self._chosen).__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._server.__aexit__())
        self._runner.close()

    def play(self, scene: Callable[[FakeServer], Awaitable[None]]) -> None:
        """Plays a scene with the server, within ten seconds."""

        async def play() -> None:
            self._server.client.sent.clear()
            await asyncio.wait_for(scene(self._server), LIMIT_SECONDS)

        self._runner.run(play())


def serve(scene: Callable[[FakeServer], Awaitable[None]], chosen: Settings | None = None, **options: Any) -> None:
    """Plays a scene with a server, within ten seconds."""

    async def play() -> None:
        async with FakeServer(chosen, **options) as server:
            await asyncio.wait_for(scene(server), LIMIT_SECONDS)

    asyncio.run(play())
