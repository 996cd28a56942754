"""AsyncMPClient: what the web process holds of EngineCore; the child starts, speaks and stops through this object alone.

Owns both ZeroMQ sockets and, on one host, the child process and the private folder. Knows nothing of text or HTTP.
``AsyncLLM`` is its only caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging

import msgspec

from yeoul import __version__
from yeoul.config.parts import EngineLink, EngineSettings
from yeoul.config.settings import Settings
from yeoul.engine_process.launch import engine_settings, spawn_engine
from yeoul.errors import ProcessDeadError, RequestFailedError
from yeoul.messages.outputs import EngineDead, EngineMessage, EngineReady, UtilityResult
from yeoul.messages.requests import ClientMessage, Hello, Shutdown, UtilityCall
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.transport.child_process import ChildProcess
from yeoul.transport.child_reports import read_ready
from yeoul.transport.death_watch import DeathWatch
from yeoul.transport.private_folder import PrivateFolder
from yeoul.transport.sockets import ClientSockets, ipc_addresses, tcp_addresses, unlink_ipc

logger = logging.getLogger(__name__)


class MPClientEngineMonitor(DeathWatch):
    """The thread in the web process that sleeps on EngineCore's sentinel."""

    thread_name = "MPClientEngineMonitor"


class AsyncMPClient:
    """The engine client of one web process. Without ``engine_address`` it starts EngineCore as its child."""

    def __init__(
        self, settings: Settings, files: ModelFiles, description: ModelDescription, max_model_len: int
    ) -> None:
        self._settings = settings
        self._files = files
        self._description = description
        self._max_model_len = max_model_len
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(EngineMessage)
        self._folder: PrivateFolder | None = None
        self._link: EngineLink | None = None
        self._child: ChildProcess | None = None
        self._sockets: ClientSockets | None = None
        self._monitor: MPClientEngineMonitor | None = None
        self._calls: dict[int, asyncio.Future[str]] = {}
        self._call_ids = itertools.count(1)
        self._receiving: asyncio.Future[bytes] | None = None
        self._death: ProcessDeadError | None = None
        self.ready: EngineReady | None = None

    @property
    def engine_pid(self) -> int | None:
        """The pid of EngineCore; None where it runs apart and has not answered yet."""
        if self._child is not None:
            return self._child.pid
        return self.ready.pid if self.ready is not None else None

    def spawn(self) -> None:
        """Starts the EngineCore process and returns at once, so that imports and loading go on side by side.

        Call it from a thread that lives as long as the engine shall live: the child dies with it.
        """
        if self._link is not None:
            return
        transport = self._settings.transport
        if transport.engine_address is not None:
            input_address, output_address = tcp_addresses(transport.engine_address)
            self._link = EngineLink(
                input_address=input_address,
                output_address=output_address,
                engine_binds=True,
                key_file=transport.engine_key_file,
            )
            self._sockets = ClientSockets(self._link)
            return
        self._folder = PrivateFolder.create()
        input_address, output_address = ipc_addresses(self._folder.path)
        self._link = EngineLink(input_address=input_address, output_address=output_address)
        self._sockets = ClientSockets(self._link)
        self._child = spawn_engine(self._engine_settings())

    def _engine_settings(self) -> EngineSettings:
        assert self._link is not None
        assert self._folder is not None
        return engine_settings(
            self._settings, self._files, self._description, self._max_model_len, self._link, self._folder.path
        )

    async def start(self) -> EngineReady:
        """Waits until EngineCore takes requests.

        Raises:
            ConfigError: the engine ended because of the user's mistake.
            ProcessDeadError: it died, or was not ready in time.
        """
        self.spawn()
        limit = self._settings.time.engine_ready_timeout_seconds
        if self._child is not None:
            await asyncio.to_thread(read_ready, self._child, limit)
            loop = asyncio.get_running_loop()
            self._monitor = MPClientEngineMonitor(
                [self._child], lambda error: loop.call_soon_threadsafe(self._engine_died, error)
            )
            self._monitor.start()
        self.send(Hello(__version__))
        try:
            message = await asyncio.wait_for(self.receive(), limit)
        except TimeoutError:
            address = self._settings.transport.engine_address
            raise ProcessDeadError("EngineCore", f"at {address} gave no answer within {limit:g} s") from None
        if isinstance(message, EngineDead):
            raise ProcessDeadError(message.role, message.cause, exit_code=message.exit_code, details=message.details)
        assert isinstance(message, EngineReady)
        if self._link is not None and not self._link.engine_binds:
            unlink_ipc((self._link.input_address, self._link.output_address))
        self.ready = message
        return message

    def send(self, message: ClientMessage) -> None:
        """Queues a message for EngineCore; never blocks. A message to a dead engine is lost, as the engine is."""
        assert self._sockets is not None, "start() comes first"
        self._sockets.send(self._encoder.encode(message))

    async def receive(self) -> EngineMessage:
        """The next message; EngineDead once everything that the dead engine had sent is taken. One caller at a time."""
        while True:
            payload = await self._receive_payload()
            if payload is None:
                assert self._death is not None
                death = self._death
                return EngineDead(death.role, death.cause, death.details, death.exit_code)
            message = self._decoder.decode(payload)
            if not isinstance(message, UtilityResult):
                return message
            self._resolve(message)

    async def _receive_payload(self) -> bytes | None:
        assert self._sockets is not None, "start() comes first"
        if self._death is not None:
            return self._sockets.receive_nowait()
        self._receiving = asyncio.ensure_future(self._sockets.receive())
        try:
            return await self._receiving
        except asyncio.CancelledError:
            if self._death is None:
                raise
            return self._sockets.receive_nowait()
        finally:
            self._receiving = None

    def _resolve(self, result: UtilityResult) -> None:
        future = self._calls.pop(result.call_id, None)
        if future is None or future.done():
            return
        if result.error is None:
            future.set_result(result.value)
        else:
            future.set_exception(RequestFailedError(result.error))

    async def call(self, method: str, arguments: list[str] | None = None) -> str:
        """Calls a method of EngineCore by name; answered while somebody awaits ``receive()``.

        Raises:
            RequestFailedError: EngineCore knows no such method, or it failed.
            TimeoutError: no answer within ``call_timeout_seconds``.
        """
        call_id = next(self._call_ids)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._calls[call_id] = future
        self.send(UtilityCall(call_id, method, arguments or []))
        try:
            return await asyncio.wait_for(future, self._settings.time.call_timeout_seconds)
        finally:
            self._calls.pop(call_id, None)

    def _engine_died(self, error: ProcessDeadError) -> None:
        """On the loop, by MPClientEngineMonitor: wakes ``receive()`` and fails the calls that wait."""
        self._death = error
        if self._receiving is not None:
            self._receiving.cancel()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(error)

    async def stop(self) -> None:
        """Ends EngineCore and everything below it; nothing is left when this returns. Harmless when repeated."""
        if self._monitor is not None:
            self._monitor.stop()
            self._monitor = None
        if self._child is not None:
            child, self._child = self._child, None
            if self._sockets is not None and self.ready is not None and self._death is None:
                self.send(Shutdown())
                await asyncio.to_thread(child.wait, 2 * self._settings.time.stop_timeout_seconds)
            if child.poll() is None:
                child.kill()
                child.wait(timeout_seconds=None)
            child.close()
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None
        if self._folder is not None:
            with contextlib.suppress(FileNotFoundError):
                self._folder.remove()
            self._folder = None
