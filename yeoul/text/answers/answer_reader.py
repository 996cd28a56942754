"""Turns the text of one choice, as it comes, into text, reasoning and calls; knows no API and no process.

The parts add up to the same in every way of cutting the text into pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from yeoul.text.answers import harmony
from yeoul.text.answers.call_format import CallFormat
from yeoul.text.answers.call_writer import CallWriter, ToolSchemas, read_section
from yeoul.text.answers.families import ToolFamily
from yeoul.text.answers.part_writer import PartWriter
from yeoul.text.answers.parts import Part, TextPart
from yeoul.text.answers.reasoning import ReasoningFamily
from yeoul.text.answers.tape import Sink, Steps, Tape


class AnswerReader:
    """Reads one choice.

    A marker that begins with a marked token counts only where that token is said to begin; any other counts as text.
    Reasoning begins with the answer; later only at a marked token, since an answer may speak of its marker. A token that
    ends reasoning where there is none is dropped, and so are spaces that touch a marker. What is damaged becomes text:
    ``read_section`` has the rule.

    Args:
        tools: how the model writes calls; None where the request offers no tools, or forbids calls.
        reasoning: how the model marks its reasoning; None where it has none.
        schemas: the JSON schema of the parameters of each tool that the request offers, by its name.
        marked: the texts of the tokens whose places ``feed`` is told.
        opening: what the prompt has after the last message (see ``ReasoningFamily.is_open_after``).
        on_calls: told at the end how many calls there were, if any, and how many of them are not whole.
    """

    def __init__(
        self,
        tools: ToolFamily | None = None,
        reasoning: ReasoningFamily | None = None,
        *,
        schemas: ToolSchemas | None = None,
        marked: Collection[str] = (),
        opening: str = "",
        on_calls: Callable[[int, int], None] | None = None,
    ) -> None:
        self._on_calls = on_calls
        self._tape = Tape(marked)
        self._parts = PartWriter()
        self._schemas = schemas or {}
        self._calls = tools.calls if tools is not None else None
        self._reasoning = reasoning
        self._is_plain = tools is None and reasoning is None
        is_harmony = isinstance(self._calls, harmony.HarmonyCalls) or (reasoning is not None and reasoning.is_harmony)
        if is_harmony:
            self._steps = harmony.read_answer(self._tape, self._parts, self._schemas if tools is not None else {}, opening)
        else:
            self._steps = self._read(reasoning is not None and reasoning.is_open_after(opening))

    @property
    def num_calls(self) -> int:
        """How many calls have begun."""
        return self._parts.num_calls

    @property
    def num_unfinished_calls(self) -> int:
        """How many of them have ended with arguments that are no whole JSON, damaged or cut off."""
        return self._parts.num_unfinished_calls

    def feed(self, text: str, marks: Sequence[int] = ()) -> list[Part]:
        """Takes more text and returns what is certain now; ``marks`` are the places in it where marked tokens begin."""
        if not text:
            return []
        if self._is_plain:
            return [TextPart(text)]
        self._tape.feed(text, marks)
        next(self._steps, None)
        return self._parts.take()

    def finish(self) -> list[Part]:
        """Returns what was held back: no text follows."""
        if self._is_plain:
            return []
        self._tape.is_ended = True
        next(self._steps, None)
        self._parts.finish()
        if self._on_calls is not None and self.num_calls:
            self._on_calls(self.num_calls, self.num_unfinished_calls)
        return self._parts.take()

    def _read(self, is_inside_reasoning: bool) -> Steps[None]:
        """Reads the whole answer."""
        tape, reasoning, calls = self._tape, self._reasoning, self._calls
        if reasoning is not None and ((yield from tape.skip(reasoning.begin)) or is_inside_reasoning):
            yield from self._read_reasoning(reasoning)
        if calls is not None and calls.may_begin_bare:
            yield from self._read_calls(calls, "", self._parts.text)
        markers = calls.begins if calls is not None else ()
        if reasoning is not None and tape.is_marked(reasoning.begin):
            markers = (*markers, reasoning.begin)
        if reasoning is not None and tape.is_marked(reasoning.end):
            markers = (*markers, reasoning.end)
        while (marker := (yield from self._pass_until(markers, self._parts.text))) is not None:
            if reasoning is not None and marker in (reasoning.begin, reasoning.end):
                tape.take(len(marker))
                if marker == reasoning.begin or not self._parts.has_any:
                    self._parts.seam()
                if marker == reasoning.begin:
                    yield from self._read_reasoning(reasoning)
            elif calls is not None:
                yield from self._read_calls(calls, marker, self._parts.text)

    def _read_reasoning(self, reasoning: ReasoningFamily) -> Steps[None]:
        """Reads up to the end of reasoning; its beginning was read."""
        tape, calls = self._tape, self._calls
        yield from tape.skip(reasoning.begin)
        begins = calls.begins if calls is not None and reasoning.ends_at_calls else ()
        while (marker := (yield from tape.pass_until((reasoning.end, *begins), self._parts.reasoning))) is not None:
            if marker == reasoning.end:
                tape.take(len(marker))
                self._parts.seam()
                return
            if calls is not None and (yield from self._read_calls(calls, marker, self._parts.reasoning)):
                return

    def _read_calls(self, calls: CallFormat, marker: str, sink: Sink) -> Steps[bool]:
        """Reads a section of calls from its marker on; a bare one is tried where the marker is empty."""

        def read(writer: CallWriter) -> Steps[None]:
            self._tape.take(len(marker))
            yield from calls.read(self._tape, writer, marker)

        return (yield from read_section(self._tape, self._parts, self._schemas, read, sink))

    def _pass_until(self, markers: tuple[str, ...], sink: Sink) -> Steps[str | None]:
        """Passes text on, to the end where there are no markers to look for."""
        if markers:
            return (yield from self._tape.pass_until(markers, sink))
        while (yield from self._tape.more()):
            sink(self._tape.take(self._tape.num_unread))
        return None
