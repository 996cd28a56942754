"""Web processes of one server as objects of one process: each asks the others directly, as the keeper would carry it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from yeoul.messages.siblings import SiblingAnswer, SiblingQuestion

Answer = Callable[[SiblingQuestion], Awaitable[SiblingAnswer]]


@dataclass
class FakeSiblings:
    """``others`` are those that live, by index; what is asked is written down."""

    index: int
    folder: str | None
    start: int = 0
    others: dict[int, Answer] = field(default_factory=dict)
    asked: list[SiblingQuestion] = field(default_factory=list)

    async def ask(self, question: SiblingQuestion) -> list[SiblingAnswer]:
        self.asked.append(question)
        return [await answer(question) for index, answer in self.others.items() if index != self.index]

    def serve(self, answer: Answer) -> None:
        self.others[self.index] = answer
