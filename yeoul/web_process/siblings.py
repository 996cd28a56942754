"""Siblings: the other web processes behind the same address, as one of them sees them; knows no route and no wire.

Whoever starts several web processes gives each its ``Siblings``; where there is one, it has ``NO_SIBLINGS``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from yeoul.messages.siblings import SiblingAnswer, SiblingQuestion

AnswerSibling = Callable[[SiblingQuestion], Awaitable[SiblingAnswer]]


class Siblings(Protocol):
    """What a web process is given of the others.

    Where there is a ``--data-dir``, whoever starts them holds it (``store.database.hold_folder``) for all.
    """

    @property
    def index(self) -> int:
        """The own place among all, from 0."""

    @property
    def start(self) -> int:
        """How often a process has been started in this place, from 0."""

    @property
    def folder(self) -> str | None:
        """The same for all of one server, private, and gone with it; None where nobody else is."""

    async def ask(self, question: SiblingQuestion) -> list[SiblingAnswer]:
        """What the others answer, in no order; who does not in time, or is being replaced, is left out. Never raises."""

    def serve(self, answer: AnswerSibling) -> None:
        """From now on what others ask is answered so, on the running loop; before, with status 503."""


class _NoSiblings:
    index = 0
    start = 0
    folder = None

    async def ask(self, question: SiblingQuestion) -> list[SiblingAnswer]:
        return []

    def serve(self, answer: AnswerSibling) -> None:
        """There is nobody who asks."""


NO_SIBLINGS: Siblings = _NoSiblings()
"""One web process is alone."""


def server_start(siblings: Siblings) -> int:
    """When the server was started, in Unix time: the same for all of its web processes, also those that come later."""
    now = time.time()
    if siblings.folder is not None:
        descriptor = os.open(os.path.join(siblings.folder, "started"), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            now = os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
    return int(now)
