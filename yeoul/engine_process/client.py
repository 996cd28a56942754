"""AsyncMPClient: what the web process holds of EngineCore, which starts, speaks and is replaced through this object alone.

Holds one ``EngineConnection`` at a time, and makes another where EngineCore is replaced. Knows nothing of text or HTTP.
``AsyncLLM`` and ``yeoul replay`` call it.
"""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Iterator, Sequence

import msgspec

from yeoul.config.parts import ONLY_ENGINE, EnginePlace
from yeoul.config.settings import Settings
from yeoul.engine_process.connection import EngineConnection
from yeoul.engine_process.engine_look import look_at_engine
from yeoul.engine_process.launch import engine_settings
from yeoul.errors import ConfigError, ProcessDeadError, UnavailableError
from yeoul.messages.keeper import EngineFacts
from yeoul.messages.outputs import EngineMessage, EngineReady
from yeoul.messages.questions import Answer, NoAnswer, Question
from yeoul.messages.requests import ClientMessage
from yeoul.messages.topology import EngineReport
from yeoul.model_files.description import ModelDescription, ModelFiles, shape_digest
from yeoul.transport.addresses import tcp_addresses
from yeoul.transport.curve_keys import load_keys


class AsyncMPClient:
    """The engine client of one web process. Without ``engine_address`` it starts EngineCore as its child.

    ``ready`` is what the last EngineCore said when it was. ``place`` is which of several engines it is. ``started_by``: the
    process that has started this one, where that one keeps the engines; ``stands_for`` several, it tells of each.
    """

    started_by: str | None = None
    stands_for: Sequence[EngineFacts] = ()

    def __init__(
        self,
        settings: Settings,
        files: ModelFiles,
        description: ModelDescription,
        max_model_len: int,
        place: EnginePlace = ONLY_ENGINE,
    ) -> None:
        self.place = place
        self._settings = settings
        self._files = files
        self._description = description
        self._max_model_len = max_model_len
        self._connection: EngineConnection | None = None
        self.ready: EngineReady | None = None

    @property
    def name(self) -> str:
        """What its process is called, without the prefix."""
        return self.place.name

    @property
    def engine_pid(self) -> int | None:
        """The pid of EngineCore; None where it runs apart and has not answered yet, and once it was stopped."""
        return self._connection.pid if self._connection is not None else None

    @property
    def may_be_replaced(self) -> bool:
        """Whether a dead EngineCore is ours to replace: one that runs apart is not."""
        return self._settings.transport.engine_address is None

    def spawn(self) -> None:
        """Starts the EngineCore process and returns at once, so that imports and loading go on side by side.

        Call it on the loop, in a thread that lives as long as the engine shall live: the child dies with it.

        Raises:
            ConfigError: the engine's address or its key file cannot work.
            ProcessDeadError: there is no memory, descriptor or interpreter for another process.
        """
        if self._connection is None:
            with _failures_as_deaths(self.name):
                self._connection = self._spawn() if self.may_be_replaced else self._join()

    def _spawn(self) -> EngineConnection:
        parts = (self._settings, self._files, self._description, self._max_model_len)
        settings_for = functools.partial(engine_settings, *parts, place=self.place)
        return EngineConnection.spawn(settings_for, self._settings.time)

    def _join(self) -> EngineConnection:
        """The connection to an engine that runs apart."""
        transport = self._settings.transport
        assert transport.engine_address is not None
        if transport.engine_key_file is None:
            raise ConfigError(
                "--engine-address needs --engine-key-file FILE: a copy of the one that the headless engine wrote"
            )
        keys = load_keys(transport.engine_key_file)
        return EngineConnection.join(tcp_addresses(transport.engine_address), keys, self._settings.time)

    async def start(self) -> EngineReady:
        """Waits until EngineCore takes requests.

        Raises:
            ConfigError: the engine ended because of the user's mistake.
            ProcessDeadError: it died, was not ready in time, could not be started, or would not give the answers of the one
                before it: its weights or its host have changed.
        """
        self.spawn()
        assert self._connection is not None
        with _failures_as_deaths(self.name):
            ready = await self._connection.open()
        if ready.shape_digest != shape_digest(self._description):
            raise ConfigError(
                f"the engine at {self._settings.transport.engine_address} serves another model than {self._files.name};"
                " start both sides with the same MODEL and the same version of its files"
            )
        if self.ready is None:
            self._keep_what_was_found(ready)
        elif (now := ready.model_fingerprint) != (before := self.ready.model_fingerprint):
            raise ProcessDeadError(self.name, f"would compute other things than before ({before}, now {now})")
        self.ready = ready
        return ready

    def _keep_what_was_found(self, ready: EngineReady) -> None:
        """Every later engine has the context and the cache of the first, whatever memory is left: requests go on in it."""
        settings, self._max_model_len = self._settings, ready.max_model_len
        model = msgspec.structs.replace(settings.model, max_model_len=ready.max_model_len)
        cache = msgspec.structs.replace(settings.cache, num_blocks_override=ready.num_blocks)
        self._settings = msgspec.structs.replace(settings, model=model, cache=cache)

    async def replace(self) -> EngineReady:
        """Ends what is left of EngineCore and starts another, which has heard of nothing; errors as for ``start``."""
        await self._close(at_once=True)
        return await self.start()

    def send(self, message: ClientMessage) -> None:
        """Queues a message for EngineCore; never blocks. What is sent while there is none that is ready is lost."""
        if (connection := self._connection) is not None and connection.ready is not None:
            connection.send(message)

    async def receive(self) -> EngineMessage:
        """The next message, as of ``EngineConnection``."""
        assert self._connection is not None, "start() comes first"
        return await self._connection.receive()

    async def call(self, method: str, arguments: list[str] | None = None) -> str:
        """Calls a method of EngineCore by name, as of ``EngineConnection``; UnavailableError while it is being started."""
        if (connection := self._connection) is None or connection.ready is None:
            raise UnavailableError(f"{self.name} is being started; try again in a few seconds")
        return await connection.call(method, arguments or [])

    def ask(self, question: Question) -> Answer:
        """As of ``EngineConnection``; blocks, so that it is called in a thread."""
        if (connection := self._connection) is None:
            return NoAnswer(f"{self.name} is being started; try again in a few seconds")
        return connection.ask(question)

    async def look(self) -> EngineReport:
        """What there is of the engine now, whether it lives or not; within half a second or so."""
        return await look_at_engine(self._connection)

    def is_suspended(self) -> bool:
        """Whether a signal has stopped EngineCore, where it is our child."""
        return self._connection is not None and self._connection.is_suspended()

    def kill(self, cause: str) -> None:
        """Ends an EngineCore that hangs, or gives up one that runs apart; it counts as dead of ``cause``."""
        if self._connection is not None:
            self._connection.kill(cause)

    async def stop(self) -> None:
        """Ends EngineCore and everything below it; nothing is left when this returns. Harmless when repeated."""
        await self._close(at_once=False)

    async def _close(self, *, at_once: bool) -> None:
        if (connection := self._connection) is not None:
            await connection.close(at_once=at_once)
            if self._connection is connection:
                self._connection = None


@contextlib.contextmanager
def _failures_as_deaths(name: str) -> Iterator[None]:
    """Whatever keeps an engine from being started (no memory for a process, no descriptor, no disk) counts as its death."""
    try:
        yield
    except (ConfigError, ProcessDeadError):
        raise
    except Exception as error:
        details = "".join(traceback.format_exception(error))
        raise ProcessDeadError(name, f"could not be started: {error}", details=details) from error
