"""What a reader of tool calls writes to, and what becomes of a call that is damaged; knows no format of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from yeoul.text.answers.part_writer import PartWriter
from yeoul.text.answers.tape import CutError, DamagedError, Sink, Steps, Tape

ToolSchemas = Mapping[str, Mapping[str, Any]]


class CallWriter:
    """Writes the calls of one section of an answer.

    Text that was read for a call that has not begun is kept: if no call comes of it, it is text after all.

    Args:
        tape: what the section is read from.
        parts: where the calls go.
        schemas: the JSON schema of the parameters of each tool that the request offers.
    """

    def __init__(self, tape: Tape, parts: PartWriter, schemas: ToolSchemas) -> None:
        self._tape = tape
        self._parts = parts
        self._schemas = schemas
        self._index = 0
        self.num_calls = 0
        self.is_inside = False

    def knows(self, name: str) -> bool:
        """Whether the request offers a tool of this name."""
        return name in self._schemas

    def schema(self, name: str) -> Mapping[str, Any]:
        """The JSON schema of a tool's parameters; empty where nothing is known of it."""
        return self._schemas.get(name, {})

    def begin(self, name: str) -> None:
        """Begins a call: from here on everything is its arguments."""
        self._tape.stop_recording()
        self._index = self._parts.begin_call(name)
        self.num_calls += 1
        self.is_inside = True

    def arguments(self, text: str) -> None:
        """Adds to the JSON text of the call's arguments."""
        self._parts.arguments(self._index, text)

    def end(self) -> None:
        """Says that the arguments are whole: what follows is read for a next call."""
        self.is_inside = False
        self._tape.start_recording()


def read_section(
    tape: Tape,
    parts: PartWriter,
    schemas: ToolSchemas,
    read: Callable[[CallWriter], Steps[None]],
    sink: Sink,
) -> Steps[bool]:
    """Reads a section of calls, and says whether any has begun. This is the rule for what is damaged.

    - Before a call has begun, all that was read for it goes to ``sink`` as it stands, and reading goes on where the damage
      is. A call has begun when its name and the beginning of its arguments are known.
    - Afterwards its arguments end where the damage is, unfinished, and what follows is text.
    - Where the answer itself ends inside a call, its arguments end there too; a piece of a marker or of an escape is dropped.
    """
    calls = CallWriter(tape, parts, schemas)
    tape.start_recording()
    try:
        yield from read(calls)
    except DamagedError as error:
        if calls.num_calls:
            parts.seam()
        if calls.is_inside:
            parts.num_unfinished_calls += 1
            if isinstance(error, CutError):
                tape.take(tape.num_unread)
        sink(tape.stop_recording())
    else:
        tape.stop_recording()
        parts.seam()
    return calls.num_calls > 0
