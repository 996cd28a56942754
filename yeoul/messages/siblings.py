"""What a web process asks of the other web processes of its server, and what one of them answers; msgspec alone.

The keeper of the engines passes them on, each question to all but the one that asks (``web_process/siblings.py``).
"""

from __future__ import annotations

import msgspec


class SiblingQuestion(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request of HTTP that one of them had, for each other one to answer for itself: a sibling asks nobody again.

    ``target`` is the path with its query; ``headers`` are those that decide the answer (who asks), with lower-case names.
    """

    method: str
    target: str
    headers: list[tuple[str, str]] = []
    body: bytes = b""


class SiblingAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the web process of this index says: a whole answer of HTTP, without its headers."""

    index: int
    status: int
    body: bytes = b""
