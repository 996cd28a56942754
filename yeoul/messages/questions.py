"""What a parent asks of a running child, and what it answers: one tagged union a direction, ``Question`` and ``Answer``.

They cross on the line between the two (``transport/child_side.py``), beside all work: a child that hangs answers, too.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

MAX_NUM_LINES = 1000
"""How many of its last lines of the log a process keeps."""


class StackQuestion(msgspec.Struct, frozen=True, tag="stack"):
    """Where is each thread of ``process``?"""

    process: str


class LogQuestion(msgspec.Struct, frozen=True, tag="log"):
    """The last lines of the log of ``process``, those that are newer than ``after`` (of the wall clock)."""

    process: str
    num_lines: Annotated[int, Meta(ge=1, le=MAX_NUM_LINES)] = MAX_NUM_LINES
    after: float = 0.0


class KillQuestion(msgspec.Struct, frozen=True, tag="kill"):
    """End ``process``, a child of whom is asked, as ``kill -9`` does."""

    process: str


class SpansQuestion(msgspec.Struct, frozen=True, tag="spans"):
    """What has ``process`` noted of itself since the last question of this ``recording``? It is to note it for so many
    further ``seconds``; 0 ends the recording, once nothing is left to be told.
    """

    process: str
    recording: Annotated[int, Meta(ge=1)]
    seconds: Annotated[float, Meta(ge=0, le=60)]


Question = StackQuestion | LogQuestion | KillQuestion | SpansQuestion


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """A call that a thread is in: the line of the file that it is at, the function, and what the line says."""

    file: str
    line: int
    function: str
    code: str = ""


class ThreadStack(msgspec.Struct, frozen=True, array_like=True):
    """The calls that a thread (or a task of asyncio, whose ``tid`` is 0) is in, the innermost first."""

    name: str
    tid: int
    frames: list[Frame]


class StackAnswer(msgspec.Struct, frozen=True, tag="stack"):
    """Every thread that Python knows; what libraries have started for themselves has no Python in it."""

    pid: int
    threads: list[ThreadStack]


class LogLine(msgspec.Struct, frozen=True, array_like=True):
    """A record as it was written; of one with a traceback ``text`` has several lines."""

    at: float
    level: str
    text: str


class LogAnswer(msgspec.Struct, frozen=True, tag="log"):
    """The lines, the oldest first."""

    pid: int
    lines: list[LogLine]


class KillAnswer(msgspec.Struct, frozen=True, tag="kill"):
    """It was sent the signal; whoever watches it notices its death."""

    pid: int


class RowOfSpans(msgspec.Struct, frozen=True, array_like=True):
    """A thread, or one kind of work of a thread, that spans are noted of; ``tid`` is 0 where nothing has been noted."""

    name: str
    tid: int


class Span(msgspec.Struct, frozen=True, array_like=True):
    """What was done from when to when, of the host's monotonic clock. ``row`` is a place in ``SpansAnswer.rows``.

    ``step`` is the number of the step that it is about, with ``requests`` and ``tokens``, where it is about one.
    """

    row: int
    name: str
    began: float
    ended: float
    step: int = -1
    requests: int = 0
    tokens: int = 0


class SpansAnswer(msgspec.Struct, frozen=True, tag="spans"):
    """``num_lost`` had to make room before they were asked for; ``has_more``: ask again at once."""

    pid: int
    rows: list[RowOfSpans]
    spans: list[Span]
    num_lost: int = 0
    has_more: bool = False


class NoAnswer(msgspec.Struct, frozen=True, tag="none"):
    """``is_known``: there is such a process, and it does not answer, for ``reason``."""

    reason: str
    is_known: bool = True


Answer = StackAnswer | LogAnswer | KillAnswer | SpansAnswer | NoAnswer
