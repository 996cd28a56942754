"""Calls as Gemma writes them: ``call:name{key:value,...}`` between markers, strings between tokens of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yeoul.text.answers.argument_types import json_of_text, types_of
from yeoul.text.answers.call_format import CallSpelling
from yeoul.text.answers.call_writer import CallWriter
from yeoul.text.answers.framed_calls import NAME
from yeoul.text.answers.json_text import MAX_NAME_CHARACTERS, escaped, quoted
from yeoul.text.answers.tape import CutError, DamagedError, Sink, Steps, Tape

_MAX_DEPTH = 64
_BARE = re.compile(r"[^,\[\]{}<]*")


@dataclass(frozen=True)
class GemmaCalls:
    """One call a pair of markers.

    Args:
        begin: the marker before a call.
        end: the marker after it; a call is also whole without.
        quote: the token on both sides of a string.
    """

    begin: str
    end: str
    quote: str

    may_begin_bare = False

    @property
    def begins(self) -> tuple[str, ...]:
        """The one marker."""
        return (self.begin,)

    @property
    def markers(self) -> tuple[str, ...]:
        """All three."""
        return (self.begin, self.end, self.quote)

    def read(self, tape: Tape, calls: CallWriter, begin: str) -> Steps[None]:
        """Reads one call."""
        yield from tape.expect("call:")
        text, _ = yield from tape.collect_until(("{",), MAX_NAME_CHARACTERS)
        name = text.strip()
        if NAME.fullmatch(name) is None:
            raise DamagedError
        calls.begin(name)
        yield from self._pass_pairs(tape, calls.arguments, calls.schema(name), 0)
        calls.end()
        yield from tape.skip(self.end)

    def spelling(self, name: str, schema: Mapping[str, Any]) -> CallSpelling:
        """A call between its markers."""
        return CallSpelling(
            f"{self.begin}call:{name}{{", f"}}{self.end}", self.begin,
            arguments="gemma", argument="{key}:{value}", argument_separator=",", string_quote=self.quote,
        )  # fmt: skip

    def _pass_pairs(self, tape: Tape, sink: Sink, schema: Mapping[str, Any], depth: int) -> Steps[None]:
        tape.take(1)
        sink("{")
        is_first = True
        while (yield from tape.next_character()) != "}":
            key = yield from self._read_key(tape)
            sink(f"{'' if is_first else ', '}{quoted(key)}: ")
            is_first = False
            yield from self._pass_value(tape, sink, types_of(schema, key), depth)
            yield from _pass_comma(tape, "}")
        tape.take(1)
        sink("}")

    def _pass_list(self, tape: Tape, sink: Sink, depth: int) -> Steps[None]:
        tape.take(1)
        sink("[")
        is_first = True
        while (yield from tape.next_character()) != "]":
            if not is_first:
                sink(", ")
            is_first = False
            yield from self._pass_value(tape, sink, frozenset(), depth)
            yield from _pass_comma(tape, "]")
        tape.take(1)
        sink("]")

    def _pass_value(self, tape: Tape, sink: Sink, types: frozenset[str], depth: int) -> Steps[None]:
        if depth == _MAX_DEPTH:
            raise DamagedError
        if (yield from tape.skip(self.quote)):
            sink('"')
            if not (yield from tape.pass_until((self.quote,), lambda text: sink(escaped(text)), holds_beginning=True)):
                raise CutError
            tape.take(len(self.quote))
            sink('"')
            return
        character = yield from tape.next_character()
        if character == "{":
            yield from self._pass_pairs(tape, sink, {}, depth + 1)
        elif character == "[":
            yield from self._pass_list(tape, sink, depth + 1)
        else:
            pieces: list[str] = []
            yield from tape.pass_run(_BARE, pieces.append)
            if not pieces:
                raise DamagedError
            yield from tape.peek()  # a value at whose end the answer ends may not be whole
            sink(json_of_text("".join(pieces).rstrip(), types))

    def _read_key(self, tape: Tape) -> Steps[str]:
        """A key, bare or between the tokens of a string."""
        if (yield from tape.skip(self.quote)):
            key, _ = yield from tape.collect_until((self.quote,), MAX_NAME_CHARACTERS)
            tape.take(len(self.quote))
            yield from tape.expect(":")
            return key
        key, _ = yield from tape.collect_until((":",), MAX_NAME_CHARACTERS)
        tape.take(1)
        return key.strip()


def _pass_comma(tape: Tape, closing: str) -> Steps[None]:
    """What follows a value."""
    character = yield from tape.next_character()
    if character == ",":
        tape.take(1)
    elif character != closing:
        raise DamagedError
