"""KeeperClient: all engines of a server as one of several web processes sees them: one that its keeper stands for.

The keeper starts, replaces and ends engines; here they are spoken to as one EngineCore is. Knows no text and no HTTP.
``AsyncLLM`` calls it where the web process has a keeper.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable

import msgspec

from yeoul.config.settings import Settings
from yeoul.engine_process.client import AsyncMPClient
from yeoul.engine_process.connection import ASK_LIMIT_SECONDS, EngineConnection
from yeoul.errors import ProcessDeadError, RequestFailedError, UnavailableError
from yeoul.messages.keeper import (
    AreYouThere,
    AskSiblings,
    Drained,
    EachEngine,
    HereIAm,
    KeeperMessage,
    OthersWait,
    SiblingAsks,
    SiblingSays,
    SiblingsSay,
)
from yeoul.messages.outputs import EngineMessage
from yeoul.messages.questions import Answer, NoAnswer, Question
from yeoul.messages.siblings import SiblingAnswer, SiblingQuestion
from yeoul.messages.topology import EngineReport
from yeoul.model_files.description import ModelDescription, ModelFiles

logger = logging.getLogger(__name__)

KEEPER = "Keeper"
SIBLING_LIMIT_SECONDS = 3.0
"""How long the keeper waits for what siblings answer."""

_reports = msgspec.json.Decoder(EngineReport)


class KeeperConnection(EngineConnection):
    """The link to the keeper, on which it says more than an EngineCore does."""

    decoder = msgspec.msgpack.Decoder(KeeperMessage)


class KeeperClient(AsyncMPClient):
    """``answer_sibling`` answers what siblings ask, ``on_others`` is told what of theirs waits."""

    started_by = KEEPER

    def __init__(
        self,
        settings: Settings,
        files: ModelFiles,
        description: ModelDescription,
        max_model_len: int,
        addresses: tuple[str, str],
    ) -> None:
        super().__init__(settings, files, description, max_model_len)
        self.answer_sibling: Callable[[SiblingQuestion], Awaitable[SiblingAnswer]] | None = None
        self.on_others: Callable[[OthersWait], None] = lambda _: None
        self._addresses = addresses
        self._loop: asyncio.AbstractEventLoop | None = None
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[list[SiblingAnswer]]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def may_be_replaced(self) -> bool:
        """The keeper is this process's parent: without it there is nothing."""
        return False

    def _spawn(self) -> EngineConnection:
        return self._join()

    def _join(self) -> EngineConnection:
        self._loop = asyncio.get_running_loop()
        return KeeperConnection.join(self._addresses, None, self._settings.time)

    async def receive(self) -> EngineMessage:
        """See ``AsyncMPClient``; what the keeper says besides is taken here, but for its news."""
        while True:
            message = await super().receive()
            if isinstance(message, AreYouThere):
                self._say(HereIAm())
            elif isinstance(message, EachEngine):
                self.stands_for = message.engines
            elif isinstance(message, OthersWait):
                self.on_others(message)
            elif isinstance(message, SiblingAsks):
                task = asyncio.create_task(self._answer(message), name="answer_sibling")
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            elif isinstance(message, SiblingsSay):
                if (future := self._asked.pop(message.number, None)) is not None and not future.done():
                    future.set_result(message.answers)
            else:
                return message

    def tell_drained(self) -> None:
        """Nothing is left to be finished."""
        self._say(Drained())

    async def ask_siblings(self, question: SiblingQuestion) -> list[SiblingAnswer]:
        """What the other web processes answer, as far as they do in time. Never raises."""
        number = next(self._numbers)
        future = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            self._say(AskSiblings(number, question))
            return await asyncio.wait_for(future, SIBLING_LIMIT_SECONDS + 1)
        except TimeoutError:
            return []
        finally:
            self._asked.pop(number, None)

    async def _answer(self, asked: SiblingAsks) -> None:
        if self.answer_sibling is not None:
            try:
                self._say(SiblingSays(asked.number, await self.answer_sibling(asked.question)))
            except Exception:
                logger.exception("what a sibling asks cannot be answered: %s", asked.question.target)

    def _say(self, message: msgspec.Struct) -> None:
        if (connection := self._connection) is not None and connection.ready is not None:
            connection.send(message)

    def ask(self, question: Question) -> Answer:
        """See ``AsyncMPClient``: the keeper asks."""
        if self._loop is None:
            return NoAnswer("the engines are being started; try again in a few seconds")
        asked = self.call("ask", [msgspec.json.encode(question).decode()])
        try:
            told = asyncio.run_coroutine_threadsafe(asked, self._loop).result(ASK_LIMIT_SECONDS + 1)
        except (RequestFailedError, ProcessDeadError, UnavailableError) as error:
            return NoAnswer(error.message)
        except TimeoutError:
            return NoAnswer("the keeper of the engines has not answered in time")
        answer: Answer = msgspec.json.decode(told, type=Answer)
        return answer

    async def look(self) -> EngineReport:
        """See ``AsyncMPClient``: the keeper looks, at itself as well."""
        try:
            return _reports.decode(await self.call("topology"))
        except (RequestFailedError, ProcessDeadError, UnavailableError, TimeoutError):
            return EngineReport(clock=0.0)
