"""Reads whole answers, whole or in pieces, and says what to expect of them."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yeoul.text.answers.answer_reader import AnswerReader
from yeoul.text.answers.families import reasoning_family, tool_family
from yeoul.text.answers.parts import CallArguments, CallBegin, Part, ReasoningPart, TextPart

SCHEMAS: dict[str, Mapping[str, Any]] = {
    "weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "exact": {"type": "boolean"},
            "where": {"type": "object"},
            "tags": {"type": "array"},
            "unit": {"type": ["string", "null"]},
        },
    },
    "now": {"type": "object", "properties": {}},
}


@dataclass(frozen=True)
class Case:
    """An answer and its parts; ``tools`` and ``reasoning`` are the names of families."""

    name: str
    text: str
    parts: Sequence[Part]
    tools: str | None = None
    reasoning: str | None = None
    opening: str = ""
    is_damaged: bool = False

    def read(
        self,
        text: str | None = None,
        cuts: Iterable[int] = (),
        marked: Collection[str] = (),
        written_out: Collection[int] = (),
    ) -> list[Part]:
        """The parts of the case's text, or of another one of its kind, cut at some places.

        ``marked`` are tokens wherever their text stands, except for those of these places that are ``written_out``.
        """
        text = self.text if text is None else text
        marks = [place for index, place in enumerate(places_of(marked, text)) if index not in written_out]
        return add_up(events_of(self.reader(marked), text, cuts, marks))

    def reader(self, marked: Collection[str] = ()) -> AnswerReader:
        return AnswerReader(
            tool_family(self.tools) if self.tools is not None else None,
            reasoning_family(self.reasoning) if self.reasoning is not None else None,
            schemas=SCHEMAS,
            marked=marked,
            opening=self.opening,
        )


def said(text: str) -> list[Part]:
    return [TextPart(text)]


def thought(text: str) -> list[Part]:
    return [ReasoningPart(text)]


def call(name: str, arguments: str = "{}", index: int = 0) -> list[Part]:
    return [CallBegin(index, name), *([CallArguments(index, arguments)] if arguments else [])]


def places_of(marked: Collection[str], text: str) -> list[int]:
    """Where the text of a marked token begins."""
    return sorted({place for token in marked for place in range(len(text)) if text.startswith(token, place)})


def events_of(reader: AnswerReader, text: str, cuts: Iterable[int], marks: Sequence[int] = ()) -> list[Part]:
    """All events of a text that is fed in pieces."""
    borders = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    events: list[Part] = []
    for start, end in itertools.pairwise(borders):
        events += reader.feed(text[start:end], [mark - start for mark in marks if start <= mark < end])
    return events + reader.finish()


def add_up(events: Iterable[Part]) -> list[Part]:
    """The same events with neighbours of one kind joined; checks what holds for every answer."""
    parts: list[Part] = []
    num_calls = 0
    for event in events:
        last = parts[-1] if parts else None
        if isinstance(event, CallBegin):
            assert event.index == num_calls
            assert event.name
            num_calls += 1
            parts.append(event)
            continue
        assert event.text, "an empty delta"
        if isinstance(event, CallArguments):
            assert event.index == num_calls - 1, "arguments of a call that has not begun, or has ended"
            assert isinstance(last, CallBegin | CallArguments), "arguments behind text"
            if isinstance(last, CallArguments):
                parts[-1] = CallArguments(event.index, last.text + event.text)
                continue
        elif type(last) is type(event):
            assert isinstance(last, TextPart | ReasoningPart)
            parts[-1] = type(event)(last.text + event.text)
            continue
        parts.append(event)
    return parts
