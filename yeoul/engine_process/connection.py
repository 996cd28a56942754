"""EngineConnection: one EngineCore as the web process holds it, from its start to its end; the next start makes another.

Owns both ZeroMQ sockets, the thread that notices the death and, on one host, the child process and the private folder.
Knows nothing of text or HTTP. ``AsyncMPClient`` is its only caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from yeoul import __version__
from yeoul.config.parts import EngineAddresses, EngineSettings
from yeoul.config.settings import TimeSettings
from yeoul.engine_process.launch import spawn_engine
from yeoul.errors import ProcessDeadError, RequestFailedError, TransportClosedError
from yeoul.messages.outputs import EngineDead, EngineMessage, EngineReady, UtilityResult
from yeoul.messages.questions import Answer, KillAnswer, KillQuestion, NoAnswer, Question
from yeoul.messages.requests import Hello, Shutdown, UtilityCall
from yeoul.self_report import CHILD_LIMIT_SECONDS, ask
from yeoul.transport.addresses import ipc_addresses
from yeoul.transport.child_process import ChildProcess
from yeoul.transport.child_reports import read_ready
from yeoul.transport.curve_keys import CurveKeys
from yeoul.transport.death_watch import DeathWatch
from yeoul.transport.link_watch import LinkWatch
from yeoul.transport.private_folder import PrivateFolder
from yeoul.transport.sockets import ClientSockets

_encoder = msgspec.msgpack.Encoder()
ASK_LIMIT_SECONDS = 2 * CHILD_LIMIT_SECONDS
_LINGER_SECONDS = 0.2  # for what was said last to an engine that goes on


class MPClientEngineMonitor(DeathWatch):
    """The thread in the web process that sleeps on EngineCore's sentinel."""

    thread_name = "MPClientEngineMonitor"


class EngineConnection:
    """Made whole by ``spawn`` or ``join``, opened once, closed once; everything on one event loop.

    ``ready`` is what EngineCore said when it was; ``death`` why it takes nothing any longer. ``since`` is when the last of
    these happened, of the wall clock. ``name`` is EngineCore's, of several. ``decoder`` reads what comes.
    """

    decoder: ClassVar[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(EngineMessage)

    def __init__(
        self,
        sockets: ClientSockets,
        limits: TimeSettings,
        child: ChildProcess | None = None,
        folder: PrivateFolder | None = None,
    ) -> None:
        self.ready: EngineReady | None = None
        self.death: ProcessDeadError | None = None
        self.since = time.time()
        self.sockets = sockets
        self.name = child.role if child is not None else "EngineCore"
        self._limits = limits
        self._child = child
        self._folder = folder
        self._monitor: DeathWatch | None = None
        self._calls: dict[int, asyncio.Future[str]] = {}
        self._call_ids = itertools.count(1)
        self._closing = asyncio.Lock()

    @classmethod
    def spawn(cls, settings_for: Callable[[EngineAddresses], EngineSettings], limits: TimeSettings) -> EngineConnection:
        """Starts EngineCore as a child of the calling thread and returns at once; whatever fails leaves nothing behind."""
        with contextlib.ExitStack() as on_error:
            folder = PrivateFolder.create()
            on_error.callback(folder.remove)
            input_address, output_address = ipc_addresses(folder.path)
            sockets = ClientSockets(input_address, output_address)
            on_error.callback(sockets.close)
            link = EngineAddresses(input_address=input_address, output_address=output_address)
            connection = cls(sockets, limits, spawn_engine(settings_for(link)), folder)
            on_error.pop_all()
        return connection

    @classmethod
    def join(cls, addresses: tuple[str, str], keys: CurveKeys | None, limits: TimeSettings) -> EngineConnection:
        """The connection to an engine that runs apart, or to whoever stands for engines; on one host without keys."""
        return cls(ClientSockets(*addresses, keys), limits)

    @property
    def is_child(self) -> bool:
        """Whether EngineCore is our child, and not one that runs apart."""
        return self._folder is not None

    @property
    def pid(self) -> int | None:
        """The pid of EngineCore; None where it runs apart and has not answered yet."""
        if self._child is not None:
            return self._child.pid
        return self.ready.pid if self.ready is not None else None

    async def open(self) -> EngineReady:
        """Waits until EngineCore takes requests.

        Raises:
            ConfigError: the engine ended because of the user's mistake.
            ProcessDeadError: it died, or was not ready in time.
        """
        limit = self._limits.engine_ready_timeout_seconds
        if self._child is not None:
            await read_ready(self._child, limit)
        self._start_monitor()
        self.send(Hello(__version__))
        try:
            message = await asyncio.wait_for(self.receive(), limit)
        except TimeoutError:
            raise ProcessDeadError(self.name, f"gave no answer within {limit:g} s") from None
        if isinstance(message, EngineDead):
            raise ProcessDeadError(message.role, message.cause, exit_code=message.exit_code, details=message.details)
        if not isinstance(message, EngineReady):
            raise ProcessDeadError(self.name, f"answered a Hello with {type(message).__name__}; expected EngineReady")
        if self._folder is not None:
            self._folder.remove()  # everything is connected: nothing needs its name any longer
        self.ready, self.since = message, time.time()
        return message

    def _start_monitor(self) -> None:
        loop = asyncio.get_running_loop()

        def report(error: ProcessDeadError) -> None:
            loop.call_soon_threadsafe(self.die, error)

        if self._child is not None:
            self._monitor = MPClientEngineMonitor([self._child], report)
        else:
            self._monitor = LinkWatch(self.sockets.monitors(), report)
        self._monitor.start()

    def send(self, message: msgspec.Struct) -> None:
        """Queues a message for EngineCore; never blocks. A message to a dead engine is lost, as the engine is."""
        if self.death is None:
            self.sockets.send(_encoder.encode(message))

    async def receive(self) -> EngineMessage:
        """The next message; EngineDead is the last, after everything that the dead engine had sent. One caller at a time.

        Raises:
            ProcessDeadError: what came is no message.
        """
        while True:
            try:
                message = self._decode(await self.sockets.receive())
            except TransportClosedError:
                death = self.death or ProcessDeadError(self.name, "is closed")
                return EngineDead(death.role, death.cause, death.details, death.exit_code)
            if not isinstance(message, UtilityResult):
                return message
            self._resolve(message)

    def _decode(self, payload: bytes) -> EngineMessage:
        try:
            message: EngineMessage = self.decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            cause = f"sent {len(payload)} bytes that are no message of this version: {error}"
            raise ProcessDeadError("EngineCore", cause) from error
        return message

    def _resolve(self, result: UtilityResult) -> None:
        future = self._calls.pop(result.call_id, None)
        if future is None or future.done():
            return
        if result.error is None:
            future.set_result(result.value)
        else:
            future.set_exception(RequestFailedError(result.error))

    async def call(self, method: str, arguments: list[str], limit_seconds: float | None = None) -> str:
        """Calls a method of EngineCore by name; answered while somebody awaits ``receive()``.

        Raises:
            RequestFailedError: EngineCore knows no such method, or it failed.
            ProcessDeadError: EngineCore is dead, or died meanwhile.
            TimeoutError: no answer within ``limit_seconds``; where it is None, within ``call_timeout_seconds``.
        """
        if self.death is not None:
            raise self.death
        call_id = next(self._call_ids)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._calls[call_id] = future
        self.send(UtilityCall(call_id, method, arguments))
        try:
            return await asyncio.wait_for(future, limit_seconds or self._limits.call_timeout_seconds)
        finally:
            self._calls.pop(call_id, None)

    def ask(self, question: Question) -> Answer:
        """What EngineCore answers for itself or a worker, beside its work; blocks for ``ASK_LIMIT_SECONDS`` at most."""
        if (child := self._child) is None:
            return NoAnswer("EngineCore runs apart (--engine-address), and is asked on its own host; or it is being replaced")
        if isinstance(question, KillQuestion) and question.process == child.role:
            child.kill()
            return KillAnswer(child.pid)
        return ask(child, question, ASK_LIMIT_SECONDS)

    def is_suspended(self) -> bool:
        """Whether a signal has stopped EngineCore, where it is our child."""
        return self._child is not None and self._child.is_stopped()

    def kill(self, cause: str) -> None:
        """Ends an EngineCore that hangs, where it is our child; it counts as dead of ``cause``, for whoever waits."""
        if self._child is not None:
            self._child.kill()
        self.die(ProcessDeadError(self.name, cause))

    def die(self, error: ProcessDeadError, linger_seconds: float = 0.0) -> None:
        """On the loop: nothing is sent or comes from now on, and what waits fails. The first error counts."""
        if self.death is None:
            self.death, self.since = error, time.time()
            if self._monitor is not None:
                self._monitor.stop()
            self.sockets.close(linger_seconds)
            for future in self._calls.values():
                if not future.done():
                    future.set_exception(error)

    async def close(self, *, at_once: bool) -> None:
        """Ends EngineCore and everything below it, without a word if ``at_once``; nothing is left when this returns.

        Harmless when repeated: a second call waits as the first does, and one after a cancelled call finishes its work.
        """
        async with self._closing:
            if (child := self._child) is not None:
                if not at_once and self.ready is not None and self.death is None:
                    self.send(Shutdown())
                    await child.wait_on_loop(2 * self._limits.stop_timeout_seconds)
                child.kill()
                await child.wait_on_loop(self._limits.stop_timeout_seconds)
            self.die(ProcessDeadError(self.name, "was stopped"), linger_seconds=_LINGER_SECONDS)
            if child is not None:
                child.close()
                self._child = None
            if self._folder is not None:
                self._folder.remove()
