"""Calls whose arguments stand between tags, each by its name: Qwen3-Coder, Seed-OSS, MiniMax, GLM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yeoul.text.answers.argument_types import json_of_text, types_of
from yeoul.text.answers.call_format import CallSpelling
from yeoul.text.answers.call_writer import CallWriter
from yeoul.text.answers.framed_calls import NAME
from yeoul.text.answers.json_text import MAX_NAME_CHARACTERS, escaped, quoted
from yeoul.text.answers.tape import CutError, DamagedError, Sink, Steps, Tape


@dataclass(frozen=True)
class TaggedCalls:
    """``begin``, the call's tag with its name, each argument in its tags, the closing tags; spaces between them are free.

    A value may hold anything: its closing tag counts where it is a token, or where a tag that may follow does.

    Args:
        begin, end: the markers around a section of calls.
        before_name, after_name, call_end: the call's own tags; none where the section is the call. Without ``after_name``
            the name ends with its line or at the next tag.
        before_key, after_key, before_value, after_value: an argument's tags.
        has_lines: whether a value stands on lines of its own.
    """

    begin: str
    end: str
    before_name: str
    after_name: str
    call_end: str
    before_key: str
    after_key: str
    before_value: str
    after_value: str
    has_lines: bool = False

    may_begin_bare = False

    @property
    def begins(self) -> tuple[str, ...]:
        """The section's marker, and the call's tag, since models forget the marker."""
        return (self.begin, self.before_name) if self.before_name else (self.begin,)

    @property
    def markers(self) -> tuple[str, ...]:
        """All tags that are the same in every call."""
        tags = (self.begin, self.end, self.call_end, self.before_key, self.after_key, self.before_value, self.after_value)
        return tuple(tag for tag in tags if len(tag) > 2)

    def read(self, tape: Tape, calls: CallWriter, begin: str) -> Steps[None]:
        """Reads calls while one follows another, and the section's end."""
        if begin != self.before_name:
            yield from tape.expect(self.before_name)
        while True:
            yield from self._read_call(tape, calls, is_bare=begin != self.begin)
            if not (yield from tape.skip(self.before_name)):
                break
        yield from tape.skip(self.end)

    def spelling(self, name: str, schema: Mapping[str, Any]) -> CallSpelling:
        """A section a call."""
        line = "\n" if self.has_lines else ""
        call_line = "\n" if self.call_end else ""
        return CallSpelling(
            begin=f"{self.begin}{call_line}{self.before_name}{name}{self.after_name}\n",
            end=f"\n{self.call_end}{call_line}{self.end}",
            trigger=self.begin,
            separator="\n",
            arguments="tagged",
            argument=f"{self.before_key}{{key}}{self.after_key}{self.before_value}{line}{{value}}{line}{self.after_value}",
            argument_separator="\n",
        )

    def _read_call(self, tape: Tape, calls: CallWriter, *, is_bare: bool) -> Steps[None]:
        closing = (self.call_end or self.end,)
        ends_of_name = (self.after_name,) if self.after_name else ("\n", self.before_key, *closing)
        yield from tape.skip_space()
        text, _ = yield from tape.collect_until(ends_of_name, MAX_NAME_CHARACTERS)
        name = text.strip()
        if NAME.fullmatch(name) is None or (is_bare and not calls.knows(name)):
            raise DamagedError
        tape.take(len(self.after_name))
        tag = yield from tape.expect(self.before_key, *closing)
        calls.begin(name)
        opening = "{"
        schema = calls.schema(name)
        while tag == self.before_key:
            key, _ = yield from tape.collect_until((self.after_key,), MAX_NAME_CHARACTERS)
            tape.take(len(self.after_key))
            if self.before_value:
                yield from tape.expect(self.before_value)
            calls.arguments(f"{opening}{quoted(key.strip())}: ")
            opening = ", "
            yield from self._read_value(tape, calls, types_of(schema, key.strip()))
            tag = yield from tape.expect(self.before_key, *closing)
        calls.arguments("{}" if opening == "{" else "}")
        calls.end()

    def _read_value(self, tape: Tape, calls: CallWriter, types: frozenset[str]) -> Steps[None]:
        """Reads a value and its closing tag. A string is passed on as it comes; another type is known when it is whole."""
        pieces: list[str] = []
        is_string = types == {"string"}
        if is_string:
            calls.arguments('"')
            is_whole = yield from self._pass_text(tape, lambda text: calls.arguments(escaped(text)))
            calls.arguments('"' if is_whole else "")
        else:
            is_whole = yield from self._pass_text(tape, pieces.append)
            if is_whole:
                calls.arguments(json_of_text("".join(pieces), types))
        if not is_whole:
            raise CutError

    def _pass_text(self, tape: Tape, sink: Sink) -> Steps[bool]:
        """Passes a value on and reads its closing tag; False where the answer ends before it."""
        line_end = "\n" + self.after_value
        ends = (line_end, self.after_value) if self.has_lines else (self.after_value,)
        if self.has_lines and (yield from tape.starts_with("\n")):
            tape.take(1)
        followers = (self.before_key, self.call_end or self.end)
        while (found := (yield from tape.pass_until(ends, sink, holds_beginning=True))) is not None:
            follows = tape.is_marked(self.after_value) or (yield from tape.is_followed_by(found, followers))
            if follows is None:
                break
            text = tape.take(len(found))
            if follows:
                return True
            sink(text)
        return False
