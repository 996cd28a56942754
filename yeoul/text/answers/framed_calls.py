"""Calls whose name stands between markers and whose arguments are JSON: DeepSeek, Mistral's newer form, Kimi."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yeoul.text.answers.call_format import CallSpelling
from yeoul.text.answers.call_writer import CallWriter
from yeoul.text.answers.json_text import MAX_NAME_CHARACTERS, pass_arguments
from yeoul.text.answers.tape import DamagedError, Steps, Tape
from yeoul.text.answers.wrapped_calls import read_wrapped_call

NAME = re.compile(r"[\w.:/-]+")


@dataclass(frozen=True)
class FramedCalls:
    """``begin``, name, ``after_name``, JSON, ``end``; spaces between them are free, and what is optional may be missing.

    Args:
        begin: the marker before a call.
        after_name: the marker that ends the name.
        before_name: what stands between the two.
        before_arguments: what stands between the name's marker and the JSON; optional.
        after_arguments: what stands after the JSON; optional.
        end: the marker after a call; optional.
        section_begin: the marker before all calls; optional.
        section_end: the marker after all calls; optional.
        name_pattern: the name proper, as the first group, in what stands where the name does.
        name_form: how it is written there; ``{name}`` is the name.
    """

    begin: str
    after_name: str
    before_name: str = ""
    before_arguments: str = ""
    after_arguments: str = ""
    end: str = ""
    section_begin: str = ""
    section_end: str = ""
    name_pattern: str = "(.+)"
    name_form: str = "{name}"

    may_begin_bare = False

    @property
    def begins(self) -> tuple[str, ...]:
        """The marker of the section, and that of a call."""
        return tuple(filter(None, (self.section_begin, self.begin)))

    @property
    def markers(self) -> tuple[str, ...]:
        """All that may be special tokens."""
        own = (self.before_name.removeprefix("function"), self.after_name.strip(), self.end, self.section_end)
        return tuple(filter(None, (*self.begins, *own)))

    def read(self, tape: Tape, calls: CallWriter, begin: str) -> Steps[None]:
        """Reads calls while one follows another, and the section's end."""
        if begin == self.section_begin:
            yield from tape.expect(self.begin)
        while True:
            yield from self._read_call(tape, calls)
            if not (yield from tape.skip(self.begin)):
                break
        yield from tape.skip(self.section_end)

    def spelling(self, name: str, schema: Mapping[str, Any]) -> CallSpelling:
        """A call in its frame."""
        begin = self.begin + self.before_name + self.name_form.format(name=name) + self.after_name + self.before_arguments
        trigger = self.section_begin or self.begin
        return CallSpelling(begin, self.after_arguments + self.end, trigger, self.section_begin, self.section_end)

    def _read_call(self, tape: Tape, calls: CallWriter) -> Steps[None]:
        if self.before_name:
            yield from tape.expect(self.before_name)
        text, _ = yield from tape.collect_until((self.after_name,), MAX_NAME_CHARACTERS)
        name = re.fullmatch(self.name_pattern, text.strip())
        if name is None or NAME.fullmatch(name[1]) is None:
            raise DamagedError
        tape.take(len(self.after_name))
        yield from tape.skip(self.before_arguments.strip())
        yield from read_json_call(tape, calls, name[1])
        yield from tape.skip(self.after_arguments.strip())
        yield from tape.skip(self.end)
        calls.end()


@dataclass(frozen=True)
class MistralCalls:
    """``[TOOL_CALLS]name[ARGS]{...}``, once a call, also with ``[CALL_ID]`` before the arguments; or one list of objects."""

    begin = "[TOOL_CALLS]"
    after_name = "[ARGS]"
    before_id = "[CALL_ID]"
    may_begin_bare = False

    is_list: bool = False

    @property
    def begins(self) -> tuple[str, ...]:
        """The one marker."""
        return (self.begin,)

    @property
    def markers(self) -> tuple[str, ...]:
        """All three."""
        return (self.begin, self.after_name, self.before_id)

    def read(self, tape: Tape, calls: CallWriter, begin: str) -> Steps[None]:
        """Reads a list, or one call; both are read whichever form a grammar would write."""
        character = yield from tape.next_character()
        if character == "[":
            tape.take(1)
            yield from read_wrapped_call(tape, calls)
            while (yield from tape.skip(",", "]")) == ",":
                yield from read_wrapped_call(tape, calls)
        elif character == "{":
            yield from read_wrapped_call(tape, calls)
        else:
            ends_of_name = (self.after_name, self.before_id, "{")
            text, marker = yield from tape.collect_until(ends_of_name, MAX_NAME_CHARACTERS)
            name = text.strip()
            if NAME.fullmatch(name) is None:
                raise DamagedError
            if marker == self.before_id:
                tape.take(len(marker))
                _, marker = yield from tape.collect_until((self.after_name,), MAX_NAME_CHARACTERS)
            if marker == self.after_name:
                tape.take(len(marker))
            yield from read_json_call(tape, calls, name)

    def spelling(self, name: str, schema: Mapping[str, Any]) -> CallSpelling:
        """A call in its form."""
        if self.is_list:
            begin = f'{{"name": "{name}", "arguments": '
            return CallSpelling(begin, "}", self.begin, self.begin + "[", "]", ", ")
        return CallSpelling(f"{self.begin}{name}{self.after_name}", "", self.begin)


def read_json_call(tape: Tape, calls: CallWriter, name: str) -> Steps[None]:
    """Reads a call whose name is known and whose arguments follow as a JSON object."""
    if (yield from tape.next_character()) != "{":
        raise DamagedError
    calls.begin(name)
    yield from pass_arguments(tape, calls.arguments)
    calls.end()
