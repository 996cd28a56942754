"""KeeperSide: what a web process holds of its keeper: the way to the engines, and to the other web processes.

Knows no route. ``web_process.main`` makes it; ``AsyncLLM`` connects through it, and it is the ``Siblings`` of the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from yeoul.config.parts import EnginePlace
from yeoul.config.settings import Settings
from yeoul.engines.keeper_client import KeeperClient
from yeoul.errors import UnavailableError
from yeoul.messages.siblings import SiblingAnswer, SiblingQuestion
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.web_process.engine.waiting_room import WaitingRoom
from yeoul.web_process.launch import WebArguments


class KeeperSide:
    """``index``, ``start`` and ``folder`` as of ``Siblings``. ``room`` is told what of the others' requests waits."""

    def __init__(self, arguments: WebArguments) -> None:
        self.index = arguments.index
        self.start = arguments.start
        self.folder: str | None = arguments.folder
        self.room: WaitingRoom | None = None
        self._addresses = arguments.addresses
        self._client: KeeperClient | None = None
        self._answer: Callable[[SiblingQuestion], Awaitable[SiblingAnswer]] = self._refuse

    @property
    def mark(self) -> str:
        """Tells what this process names from what others do, those before it included."""
        return f"{self.index}.{self.start}."

    def connect(
        self,
        settings: Settings,
        files: ModelFiles,
        description: ModelDescription,
        max_model_len: int,
        place: EnginePlace,
    ) -> KeeperClient:
        """What ``AsyncLLM`` holds of all engines."""
        self._client = KeeperClient(settings, files, description, max_model_len, self._addresses)
        self._client.answer_sibling = self._answer
        if self.room is not None:
            room = self.room
            self._client.on_others = lambda message: room.note_others(message.waiting)
        return self._client

    async def _refuse(self, _: SiblingQuestion) -> SiblingAnswer:
        """While there is no application yet, so that nobody waits for it."""
        return SiblingAnswer(self.index, UnavailableError.status)

    def tell_drained(self) -> None:
        """Nothing is left to be finished here."""
        if self._client is not None:
            self._client.tell_drained()

    async def ask(self, question: SiblingQuestion) -> list[SiblingAnswer]:
        """See ``Siblings``."""
        return [] if self._client is None else await self._client.ask_siblings(question)

    def serve(self, answer: Callable[[SiblingQuestion], Awaitable[SiblingAnswer]]) -> None:
        """See ``Siblings``."""
        self._answer = answer
        if self._client is not None:
            self._client.answer_sibling = answer
