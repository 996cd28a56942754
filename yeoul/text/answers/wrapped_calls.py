"""Calls that are JSON objects with a name and arguments: Hermes and Qwen, Llama 3, Mistral's older list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yeoul.text.answers.call_format import CallSpelling
from yeoul.text.answers.call_writer import CallWriter
from yeoul.text.answers.json_text import is_arguments, pass_arguments, pass_value, quoted, read_string, unquoted
from yeoul.text.answers.tape import DamagedError, Steps, Tape

_ARGUMENT_KEYS = ("arguments", "parameters")
_KEYS_OF_A_BARE_CALL = ("name", "type", "id", *_ARGUMENT_KEYS)


@dataclass(frozen=True)
class WrappedCalls:
    """``{"name": ..., "arguments": {...}}``, in markers or bare, one or several with a separator between them.

    Args:
        begin: the marker before a section of calls.
        end: the marker after it; a section is also whole without.
        separators: what may stand between two calls of one section.
        arguments_key: what the arguments are called where they are written by a grammar; both words are read.
        may_begin_bare: whether a section may begin the answer without the marker.
    """

    begin: str
    end: str = ""
    separators: tuple[str, ...] = ()
    arguments_key: str = "arguments"
    may_begin_bare: bool = False

    @property
    def begins(self) -> tuple[str, ...]:
        """The one marker."""
        return (self.begin,)

    @property
    def markers(self) -> tuple[str, ...]:
        """Both markers."""
        return (self.begin, self.end) if self.end else (self.begin,)

    def read(self, tape: Tape, calls: CallWriter, begin: str) -> Steps[None]:
        """Reads the objects up to the end marker, or up to something else than a separator or another object."""
        while True:
            yield from read_wrapped_call(tape, calls, is_bare=not begin)
            found = yield from tape.skip(*self.separators, self.end)
            if not found and begin and (yield from tape.skip("{")):
                tape.put_back("{")
            elif found not in self.separators:
                return

    def spelling(self, name: str, schema: Mapping[str, Any]) -> CallSpelling:
        """One section a call, since that is what all of these models have been trained on, or a separator."""
        begin = f'{{"name": {quoted(name)}, "{self.arguments_key}": '
        if self.may_begin_bare:
            return CallSpelling(begin, "}", separator=f"{self.separators[0]} ")
        return CallSpelling(f"{self.begin}\n{begin}", f"}}\n{self.end}", trigger=self.begin, separator="\n")


def read_wrapped_call(tape: Tape, calls: CallWriter, *, is_bare: bool = False) -> Steps[None]:
    """Reads one object; its keys come in any order, and a name alone is a call without arguments.

    A bare one is strict, as it may be an answer in JSON: only the keys of a call, only a tool of the request.
    """
    name: str | None = None
    arguments: str | None = None
    has_begun = False
    yield from tape.expect("{")
    closing = ","
    while closing == ",":
        key = yield from read_string_after_space(tape)
        yield from tape.expect(":")
        if key == "name":
            if name is not None:
                raise DamagedError
            name = yield from read_string_after_space(tape)
            if not name or (is_bare and not calls.knows(name)):
                raise DamagedError
        elif key in _ARGUMENT_KEYS and not has_begun and arguments is None:
            if name is not None and (yield from tape.next_character()) == "{":
                has_begun = True
                calls.begin(name)
                yield from pass_arguments(tape, calls.arguments)
                calls.end()
            else:
                arguments = yield from _read_arguments(tape)
        elif is_bare and key not in _KEYS_OF_A_BARE_CALL:
            raise DamagedError
        else:
            yield from pass_value(tape, _drop)
        closing = yield from _read_closing(tape)
    if has_begun:
        calls.end()
    elif name is None or (is_bare and arguments is None):
        raise DamagedError
    else:
        calls.begin(name)
        calls.arguments(arguments or "{}")
        calls.end()


def read_string_after_space(tape: Tape) -> Steps[str]:
    """Reads a JSON string."""
    if (yield from tape.next_character()) != '"':
        raise DamagedError
    return (yield from read_string(tape))


def _read_arguments(tape: Tape) -> Steps[str]:
    """Arguments that come before the name, or are null, or JSON in a string."""
    pieces: list[str] = []
    character = yield from tape.next_character()
    yield from pass_value(tape, pieces.append)
    text = "".join(pieces)
    if character == '"':
        text = unquoted(text)
    if text == "null":
        return "{}"
    if not is_arguments(text):
        raise DamagedError
    return text


def _read_closing(tape: Tape) -> Steps[str]:
    character = yield from tape.next_character()
    if character not in ",}":
        raise DamagedError
    return tape.take(1)


def _drop(text: str) -> None:
    pass
