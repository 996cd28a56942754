"""SiblingQuestions: passes on what a web process asks the others, and what they answer in time; reads neither."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from yeoul.engines.keeper_client import SIBLING_LIMIT_SECONDS
from yeoul.keeper_process.web_link import WebLink
from yeoul.messages.keeper import AskSiblings, SiblingAsks, SiblingSays, SiblingsSay
from yeoul.messages.siblings import SiblingAnswer


@dataclass
class _Open:
    """A question that others are still to answer."""

    asker: WebLink
    number: int  # the asker's own
    left: set[int]
    timer: asyncio.TimerHandle
    answers: list[SiblingAnswer] = field(default_factory=list)


class SiblingQuestions:
    """``links`` are the web processes of now."""

    def __init__(self, links: Mapping[int, WebLink]) -> None:
        self._links = links
        self._numbers = itertools.count(1)
        self._open: dict[int, _Open] = {}

    def ask(self, asker: WebLink, message: AskSiblings) -> None:
        """Passes it on to all others that are ready."""
        number = next(self._numbers)
        others = [link for link in self._links.values() if link is not asker and link.is_welcome]
        timer = asyncio.get_running_loop().call_later(SIBLING_LIMIT_SECONDS, self._close, number)
        self._open[number] = _Open(asker, message.number, {link.index for link in others}, timer)
        for link in others:
            link.send(SiblingAsks(number, message.question))
        self._close_if_complete(number)

    def take(self, link: WebLink, message: SiblingSays) -> None:
        """One has answered."""
        if (question := self._open.get(message.number)) is not None and link.index in question.left:
            question.left.discard(link.index)
            question.answers.append(message.answer)
            self._close_if_complete(message.number)

    def forget(self, index: int) -> None:
        """This one is gone, and answers nothing."""
        for number, question in list(self._open.items()):
            question.left.discard(index)
            self._close_if_complete(number)

    def _close_if_complete(self, number: int) -> None:
        if not self._open[number].left:
            self._close(number)

    def _close(self, number: int) -> None:
        question = self._open.pop(number)
        question.timer.cancel()
        question.asker.send(SiblingsSay(question.number, question.answers))
