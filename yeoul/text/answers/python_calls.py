"""Calls as Python writes them: a list of function calls with keyword arguments (Llama 3.2 and 4, LFM2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yeoul.text.answers.call_format import CallSpelling
from yeoul.text.answers.call_writer import CallWriter
from yeoul.text.answers.json_text import quoted
from yeoul.text.answers.python_values import pass_python
from yeoul.text.answers.tape import DamagedError, Steps, Tape

_NAME = re.compile(r"[^\W\d][\w.-]*")
_NAME_CHARACTERS = re.compile(r"[\w.-]*")


@dataclass(frozen=True)
class PythonCalls:
    """``[name(key=value, ...), ...]``, between markers or bare.

    Args:
        begin: the marker before the list; empty for none.
        end: the marker after it; optional.
        may_begin_bare: whether the list may begin the answer without the marker.
    """

    begin: str = ""
    end: str = ""
    may_begin_bare: bool = False

    @property
    def begins(self) -> tuple[str, ...]:
        """The one marker, if any."""
        return (self.begin,) if self.begin else ()

    @property
    def markers(self) -> tuple[str, ...]:
        """Both markers."""
        return tuple(filter(None, (self.begin, self.end)))

    def read(self, tape: Tape, calls: CallWriter, begin: str) -> Steps[None]:
        """Reads the list; a bare one may only call tools of the request, since it may be any list."""
        yield from tape.expect("[")
        while True:
            yield from self._read_call(tape, calls, is_bare=not begin)
            if not (yield from tape.skip(",")):
                break
        yield from tape.expect("]")
        yield from tape.skip(self.end)

    def spelling(self, name: str, schema: Mapping[str, Any]) -> CallSpelling:
        """A call in the list."""
        return CallSpelling(
            f"{name}(", ")", self.begin, self.begin + "[", "]" + self.end, ", ", "python", "{key}={value}", ", "
        )  # fmt: skip

    def _read_call(self, tape: Tape, calls: CallWriter, *, is_bare: bool) -> Steps[None]:
        name = yield from _read_name(tape, "(")
        if is_bare and not calls.knows(name):
            raise DamagedError
        if (yield from tape.skip(")")):
            calls.begin(name)
            calls.arguments("{}")
            calls.end()
            return
        key = yield from _read_name(tape, "=")
        calls.begin(name)
        opening = "{"
        while True:
            calls.arguments(f"{opening}{quoted(key)}: ")
            yield from pass_python(tape, calls.arguments)
            closing = yield from tape.next_character()
            if closing == ",":
                tape.take(1)
                closing = yield from tape.next_character()
                if closing != ")":
                    opening = ", "
                    key = yield from _read_name(tape, "=")
                    continue
            if closing != ")":
                raise DamagedError
            tape.take(1)
            calls.arguments("}")
            calls.end()
            return


def _read_name(tape: Tape, ending: str) -> Steps[str]:
    """Reads a name and what must follow it; nothing where that is not what stands here."""
    yield from tape.skip_space()
    pieces: list[str] = []
    yield from tape.pass_run(_NAME_CHARACTERS, pieces.append)
    name = "".join(pieces)
    if (yield from tape.peek()) != ending or _NAME.fullmatch(name) is None:
        tape.put_back(name)
        raise DamagedError
    tape.take(1)
    return name
