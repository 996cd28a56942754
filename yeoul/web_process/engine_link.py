"""EngineLink: what ``AsyncLLM`` needs of an engine client, so that tests can put a fake in its place; no code of its own.

``yeoul.engine_process.client.AsyncMPClient`` is the real one.
"""

from __future__ import annotations

from typing import Protocol

from yeoul.messages.outputs import EngineMessage, EngineReady
from yeoul.messages.requests import ClientMessage


class EngineLink(Protocol):
    """An engine, seen from the web process."""

    ready: EngineReady | None

    @property
    def engine_pid(self) -> int | None:
        """The pid of EngineCore, where it is known."""

    def spawn(self) -> None:
        """Starts the engine's process and returns at once. Call it in a thread that outlives the engine."""

    async def start(self) -> EngineReady:
        """Waits until the engine takes requests; ConfigError or ProcessDeadError where it never will."""

    def send(self, message: ClientMessage) -> None:
        """Queues a message; never blocks."""

    async def receive(self) -> EngineMessage:
        """The engine's next message; ``EngineDead`` is the last."""

    async def call(self, method: str, arguments: list[str] | None = None) -> str:
        """Calls a method of the engine by name."""

    @property
    def may_be_replaced(self) -> bool:
        """Whether a dead engine is ours to replace."""

    async def replace(self) -> EngineReady:
        """Ends what is left of the engine and starts another; errors as for ``start``. What is sent meanwhile is lost."""

    def is_suspended(self) -> bool:
        """Whether a signal has stopped the engine: it lives, and does nothing."""

    def kill(self, cause: str) -> None:
        """Ends an engine that hangs; it counts as dead of ``cause``."""

    async def stop(self) -> None:
        """Ends the engine and all below it; harmless when repeated."""
