"""What an answer consists of, as far as any API is concerned; knows no format of a model. Formats of the API spell them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextPart:
    """More of the text that is meant for the reader; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """More of what the model thinks before it answers; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegin:
    """The model calls a tool. ``index`` counts the calls of a choice from 0; ids are given by whoever needs them."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the JSON text of a call's arguments; never empty. The pieces of a whole call make one JSON object."""

    index: int
    text: str


Part = TextPart | ReasoningPart | CallBegin | CallArguments
