"""AsyncMPClient: what the web process holds of EngineCore; the child starts, speaks and stops through this object alone.

Owns both ZeroMQ sockets and, on one host, the child process and the private folder. Knows nothing of text or HTTP.
``AsyncLLM`` is its only caller.
"""

from __future__ import annotations

import asyncio
import itertools
import logging

import msgspec

from yeoul import __version__
from yeoul.config.parts import EngineAddresses
from yeoul.config.settings import Settings
from yeoul.engine_process.launch import engine_settings, spawn_engine
from yeoul.errors import ConfigError, ProcessDeadError, RequestFailedError
from yeoul.messages.outputs import EngineDead, EngineMessage, EngineReady, UtilityResult
from yeoul.messages.requests import ClientMessage, Hello, Shutdown, UtilityCall
from yeoul.model_files.description import ModelDescription, ModelFiles, shape_digest
from yeoul.transport.child_process import ChildProcess
from yeoul.transport.child_reports import read_ready
from yeoul.transport.curve_keys import CurveKeys, load_keys
from yeoul.transport.death_watch import DeathWatch
from yeoul.transport.link_watch import LinkWatch
from yeoul.transport.private_folder import PrivateFolder
from yeoul.transport.sockets import ClientSockets, ipc_addresses, tcp_addresses

logger = logging.getLogger(__name__)


class MPClientEngineMonitor(DeathWatch):
    """The thread in the web process that sleeps on EngineCore's sentinel."""

    thread_name = "MPClientEngineMonitor"


class AsyncMPClient:
    """The engine client of one web process. Without ``engine_address`` it starts EngineCore as its child."""

    def __init__(self, settings: Settings, files: ModelFiles, description: ModelDescription, max_model_len: int) -> None:
        self._settings = settings
        self._files = files
        self._description = description
        self._max_model_len = max_model_len
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(EngineMessage)
        self._folder: PrivateFolder | None = None
        self._link: EngineAddresses | None = None
        self._child: ChildProcess | None = None
        self._sockets: ClientSockets | None = None
        self._monitor: DeathWatch | LinkWatch | None = None
        self._keys: CurveKeys | None = None
        self._calls: dict[int, asyncio.Future[str]] = {}
        self._call_ids = itertools.count(1)
        self._death: ProcessDeadError | None = None
        self.ready: EngineReady | None = None

    @property
    def engine_pid(self) -> int | None:
        """The pid of EngineCore; None where it runs apart and has not answered yet, and once it was stopped."""
        if self._child is not None:
            return self._child.pid
        runs_apart = self._settings.transport.engine_address is not None
        return self.ready.pid if runs_apart and self.ready is not None else None

    @property
    def may_be_replaced(self) -> bool:
        """Whether a dead EngineCore is ours to replace: one that runs apart is not."""
        return self._settings.transport.engine_address is None

    def spawn(self) -> None:
        """Starts the EngineCore process and returns at once, so that imports and loading go on side by side.

        Call it from a thread that lives as long as the engine shall live: the child dies with it.

        Raises:
            ConfigError: the engine's address or its key file cannot work.
        """
        if self._link is None:
            self._link = self._join() if self._settings.transport.engine_address is not None else self._spawn_child()

    def _join(self) -> EngineAddresses:
        """The link to an engine that runs apart."""
        transport = self._settings.transport
        assert transport.engine_address is not None
        if transport.engine_key_file is None:
            raise ConfigError(
                "--engine-address needs --engine-key-file FILE: a copy of the one that the headless engine wrote"
            )
        self._keys = load_keys(transport.engine_key_file)
        input_address, output_address = tcp_addresses(transport.engine_address)
        return EngineAddresses(input_address=input_address, output_address=output_address, key_file=transport.engine_key_file)

    def _spawn_child(self) -> EngineAddresses:
        self._folder = PrivateFolder.create()
        input_address, output_address = ipc_addresses(self._folder.path)
        link = EngineAddresses(input_address=input_address, output_address=output_address)
        self._child = spawn_engine(engine_settings(self._settings, self._files, self._description, self._max_model_len, link))
        return link

    async def start(self) -> EngineReady:
        """Waits until EngineCore takes requests.

        Raises:
            ConfigError: the engine ended because of the user's mistake.
            ProcessDeadError: it died, or was not ready in time.
        """
        self.spawn()
        assert self._link is not None
        self._sockets = ClientSockets(self._link.input_address, self._link.output_address, self._keys)
        limit = self._settings.time.engine_ready_timeout_seconds
        if self._child is not None:
            await asyncio.to_thread(read_ready, self._child, limit)
        self._monitor = self._start_monitor()
        self.send(Hello(__version__))
        try:
            message = await asyncio.wait_for(self.receive(), limit)
        except TimeoutError:
            raise ProcessDeadError("EngineCore", f"gave no answer within {limit:g} s") from None
        if isinstance(message, EngineDead):
            raise ProcessDeadError(message.role, message.cause, exit_code=message.exit_code, details=message.details)
        if not isinstance(message, EngineReady):
            raise ProcessDeadError("EngineCore", f"answered a Hello with {type(message).__name__}; expected EngineReady")
        if message.shape_digest != shape_digest(self._description):
            raise ConfigError(
                f"the engine at {self._settings.transport.engine_address} serves another model than {self._files.name};"
                " start both sides with the same MODEL and the same version of its files"
            )
        self._remove_folder()  # everything is connected: nothing needs its name any longer
        self.ready = message
        return message

    async def replace(self) -> EngineReady:
        """Ends what is left of EngineCore and starts another, which has heard of nothing; errors as for ``start``.

        What is sent meanwhile is lost.
        """
        await self._end(at_once=True)
        self._link, self._death = None, None
        return await self.start()

    def _start_monitor(self) -> DeathWatch | LinkWatch:
        loop = asyncio.get_running_loop()

        def report(error: ProcessDeadError) -> None:
            loop.call_soon_threadsafe(self._engine_died, error)

        monitor: DeathWatch | LinkWatch
        if self._child is not None:
            monitor = MPClientEngineMonitor([self._child], report)
        else:
            assert self._sockets is not None
            monitor = LinkWatch("MPClientEngineMonitor", self._sockets.monitor(), report)
        monitor.start()
        return monitor

    def _remove_folder(self) -> None:
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def send(self, message: ClientMessage) -> None:
        """Queues a message for EngineCore; never blocks. A message to a dead engine is lost, as the engine is."""
        if self._sockets is not None:
            self._sockets.send(self._encoder.encode(message))

    async def receive(self) -> EngineMessage:
        """The next message; EngineDead once everything that the dead engine had sent is taken. One caller at a time.

        Raises:
            ProcessDeadError: what came is no message.
        """
        while True:
            payload = await self._receive_payload()
            if payload is None:
                assert self._death is not None
                death = self._death
                return EngineDead(death.role, death.cause, death.details, death.exit_code)
            message = self._decode(payload)
            if not isinstance(message, UtilityResult):
                return message
            self._resolve(message)

    def _decode(self, payload: bytes) -> EngineMessage:
        try:
            message: EngineMessage = self._decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            cause = f"sent {len(payload)} bytes that are no message of this version: {error}"
            raise ProcessDeadError("EngineCore", cause) from error
        return message

    async def _receive_payload(self) -> bytes | None:
        assert self._sockets is not None, "start() comes first"
        if self._is_dead():
            return self._sockets.receive_nowait()
        try:
            return await self._sockets.receive()
        except asyncio.CancelledError:
            if not self._is_dead():
                raise
            return self._sockets.receive_nowait()

    def _is_dead(self) -> bool:
        return self._death is not None

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
            ProcessDeadError: EngineCore is dead, or died meanwhile.
            TimeoutError: no answer within ``call_timeout_seconds``.
        """
        if self._death is not None:
            raise self._death
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
        if self._sockets is not None:
            self._sockets.interrupt()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(error)

    def is_suspended(self) -> bool:
        """Whether a signal has stopped EngineCore, where it is our child."""
        return self._child is not None and self._child.is_stopped()

    def kill(self, cause: str) -> None:
        """Ends an EngineCore that hangs; it counts as dead of ``cause``, for whoever waits."""
        if self._child is not None and self._death is None:
            if self._monitor is not None:
                self._monitor.stop()
                self._monitor = None
            self._child.kill()
            self._engine_died(ProcessDeadError("EngineCore", cause))

    async def stop(self) -> None:
        """Ends EngineCore and everything below it; nothing is left when this returns.

        Harmless when repeated: a second call waits as the first does, and one after a cancelled call finishes its work.
        """
        await self._end(at_once=False)

    async def _end(self, *, at_once: bool) -> None:
        if self._monitor is not None:
            self._monitor.stop()
            self._monitor = None
        if (child := self._child) is not None:
            if not at_once and self._sockets is not None and self.ready is not None and self._death is None:
                self.send(Shutdown())
                await asyncio.to_thread(child.wait, 2 * self._settings.time.stop_timeout_seconds)
            if child.poll() is None:
                child.kill()
                child.wait(timeout_seconds=None)
            child.close()
            self._child = None
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None
        self._remove_folder()
