"""What every family of tool calls says of itself: how its calls are read, and how a grammar would have them written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from yeoul.text.answers.call_writer import CallWriter
from yeoul.text.answers.tape import Steps, Tape

ArgumentsSyntax = Literal["json", "tagged", "python", "gemma"]


@dataclass(frozen=True, slots=True)
class CallSpelling:
    """How one call of a certain tool is written, for a grammar that enforces it.

    All calls of an answer are ``section_begin``, the calls with ``separator`` between them, ``section_end``; a call is
    ``begin``, its arguments, ``end``. In free text ``trigger`` is where a call begins; empty where only the whole answer can
    be calls. ``arguments`` is how they are written: "json" is a JSON object that fits the tool's schema. For "tagged" each
    argument is written as ``argument`` says, with ``{key}`` and ``{value}``: strings as they are, anything else as JSON.
    "python" are keyword arguments, and "gemma" are ``key:value`` with strings between ``string_quote``s.
    """

    begin: str
    end: str
    trigger: str = ""
    section_begin: str = ""
    section_end: str = ""
    separator: str = ""
    arguments: ArgumentsSyntax = "json"
    argument: str = ""
    argument_separator: str = ""
    string_quote: str = ""


class CallFormat(Protocol):
    """One way of writing tool calls."""

    @property
    def begins(self) -> tuple[str, ...]:
        """The markers at which a section of calls begins, wherever they stand in an answer."""

    @property
    def markers(self) -> tuple[str, ...]:
        """All markers, for a detokenizer that is to keep those which are special tokens."""

    @property
    def may_begin_bare(self) -> bool:
        """Whether calls may also begin an answer without any marker, if they are of tools that the request offers."""

    def read(self, tape: Tape, calls: CallWriter, begin: str) -> Steps[None]:
        """Reads a section of calls; ``begin`` is the marker that was read, empty for a bare beginning."""

    def spelling(self, name: str, schema: Mapping[str, Any]) -> CallSpelling:
        """How a call of a tool is written."""
