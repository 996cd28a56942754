"""Spans: what a thread did from when to when, noted only while somebody records this process; knows nothing of what it is.

Whoever does something asks its row once a step or a message whether that ``is_on``: that is all it costs meanwhile.
Times are of the host's monotonic clock, which all processes of a host share.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from yeoul.messages.questions import RowOfSpans, Span, SpansAnswer, SpansQuestion

CAPACITY = 8192
"""Of a row: so many of its spans that nobody has taken yet are kept; older ones make room, and are counted."""

MAX_NUM_SPANS = 1000
"""In one answer."""

_NOWHERE: list[Any] = [None]


class SpanRow:
    """The spans of one thread, or of one kind of work of a thread; that thread alone notes them.

    ``since`` is when the recording began.
    """

    __slots__ = ("_num_noted", "_num_taken", "_places", "_until", "is_on", "name", "since", "tid")

    def __init__(self, name: str) -> None:
        self.name = name
        self.tid = 0
        self.is_on = False
        self._places = _NOWHERE
        self._num_noted = self._num_taken = 0
        self._until = 0.0
        self.since = 0.0

    def note(self, name: str, began: float, ended: float, step: int = -1, requests: int = 0, tokens: int = 0) -> None:
        """Only where the row ``is_on``. ``step`` is the step's number, where it is about one, with what it computes."""
        if ended > self._until:
            self.is_on = False  # whoever recorded has not been heard of for long
            return
        if not self.tid:
            self.tid = threading.get_native_id()
        places = self._places
        places[self._num_noted % len(places)] = (name, began, ended, step, requests, tokens)
        self._num_noted += 1

    def begin(self, until: float) -> None:
        """From another thread: what was noted before is gone."""
        self.is_on = False
        self.tid = 0
        self._num_noted = self._num_taken = 0
        self._places = [None] * CAPACITY
        self.since = time.monotonic()
        self.go_on(until)

    def go_on(self, until: float) -> None:
        """From another thread: until then, unless this is said again."""
        self._until = until
        self.is_on = until > 0

    def take(self, most: int) -> tuple[list[Any], int]:
        """From another thread: the oldest that nobody has taken, and how many have made room before they were."""
        places, noted = self._places, self._num_noted
        first = max(self._num_taken, noted - len(places))
        end = min(noted, first + most)
        found = [places[number % len(places)] for number in range(first, end)]
        overwritten = max(0, min(len(found), self._num_noted - len(places) - first))  # meanwhile
        num_lost = first - self._num_taken + overwritten
        self._num_taken = end
        return [one for one in found[overwritten:] if one is not None], num_lost  # None: begun anew while it was noted

    @property
    def has_more(self) -> bool:
        """Whether some are there that nobody has taken."""
        return self._num_noted > self._num_taken

    def end(self) -> None:
        """From another thread: nothing is noted any longer, and nothing kept."""
        self.is_on = False
        self._places = _NOWHERE
        self._num_noted = self._num_taken = 0


class Spans:
    """All rows of a process. One recording at a time: another number ends the one before."""

    def __init__(self) -> None:
        self._rows: dict[str, SpanRow] = {}
        self._recording = 0
        self._until = 0.0
        self._lock = threading.Lock()

    def row(self, name: str) -> SpanRow:
        """The row of this name, which is there once."""
        with self._lock:
            if (row := self._rows.get(name)) is None:
                row = self._rows[name] = SpanRow(name)
                if self._until > time.monotonic():
                    row.begin(self._until)
            return row

    def answer(self, question: SpansQuestion) -> SpansAnswer:
        """What was noted since the last question of the same recording."""
        with self._lock:
            rows = list(self._rows.values())
            is_known, goes_on = question.recording == self._recording, question.seconds > 0
            if not is_known and not goes_on:
                return SpansAnswer(os.getpid(), [], [])
            self._recording = question.recording
            self._until = time.monotonic() + question.seconds if goes_on else 0.0
            for row in rows:
                row.go_on(self._until) if is_known else row.begin(self._until)
            spans: list[Span] = []
            num_lost = 0
            for number, row in enumerate(rows):
                found, lost = row.take(MAX_NUM_SPANS - len(spans))
                spans += [Span(number, *one) for one in found]
                num_lost += lost
            has_more = any(row.has_more for row in rows)
            named = [RowOfSpans(row.name, row.tid) for row in rows]
            if not goes_on and not has_more:
                self._recording = 0
                for row in rows:
                    row.end()
            return SpansAnswer(os.getpid(), named, spans, num_lost, has_more)


SPANS = Spans()
"""Of this process."""
