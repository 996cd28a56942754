"""Collects the parts of an answer between two pieces of text, and trims prose where it meets a marker; knows no format."""

from __future__ import annotations

from yeoul.text.answers.parts import CallArguments, CallBegin, Part, ReasoningPart, TextPart

_SPACE = " \t\r\n"


class PartWriter:
    """Where readers put what they find. Spaces that touch a marker belong to it, and are dropped.

    So text and reasoning are trimmed on the sides where the one meets the other, or a call; the beginning and the end of
    the whole answer stay as they are.
    """

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._key: tuple[type[Part], int] | None = None
        self._pieces: list[str] = []
        self._spaces: list[str] = []
        self._prose: type[TextPart] | type[ReasoningPart] = TextPart
        self._is_at_seam = False
        self._last_kind: type[Part] | None = None
        self.num_calls = 0
        self.num_unfinished_calls = 0

    @property
    def has_any(self) -> bool:
        """Whether the answer has any part yet."""
        return self._last_kind is not None

    def text(self, text: str) -> None:
        """Adds text for the reader."""
        self._add_prose(TextPart, text)

    def reasoning(self, text: str) -> None:
        """Adds reasoning."""
        self._add_prose(ReasoningPart, text)

    def seam(self) -> None:
        """Says that here stands a marker."""
        self._spaces.clear()
        self._is_at_seam = True

    def paragraph(self, is_reasoning: bool) -> None:
        """Says that here a message begins: an empty line parts it from one of the same kind right before it."""
        kind = ReasoningPart if is_reasoning else TextPart
        follows_one = self._last_kind is kind
        self.seam()
        self._prose = kind
        if follows_one:
            self._spaces.append("\n\n")

    def begin_call(self, name: str) -> int:
        """Begins a call and returns its index."""
        self.seam()
        self._close()
        index = self.num_calls
        self.num_calls += 1
        self._parts.append(CallBegin(index, name))
        self._last_kind = CallBegin
        return index

    def arguments(self, index: int, text: str) -> None:
        """Adds to the JSON text of a call's arguments."""
        self._add((CallArguments, index), text)

    def finish(self) -> None:
        """Says that the answer ends: spaces that were held back are its last."""
        self._add((self._prose, 0), "".join(self._spaces))
        self._spaces.clear()

    def take(self) -> list[Part]:
        """The parts since the last time; neighbours of one kind are one part."""
        key = self._key
        self._close()
        self._key = key
        parts, self._parts = self._parts, []
        return parts

    def _add_prose(self, kind: type[TextPart] | type[ReasoningPart], text: str) -> None:
        if kind is not self._prose and text:
            self.seam()
            self._prose = kind
        if self._is_at_seam:
            text = text.lstrip(_SPACE)
            self._is_at_seam = not text
        if body := text.rstrip(_SPACE):
            self._add((kind, 0), "".join(self._spaces) + body)
            self._spaces.clear()
        if len(body) < len(text):
            self._spaces.append(text[len(body) :])

    def _add(self, key: tuple[type[Part], int], text: str) -> None:
        if not text:
            return
        if key != self._key:
            self._close()
            self._key = key
        self._pieces.append(text)
        self._last_kind = key[0]

    def _close(self) -> None:
        """Makes a part of the pieces so far."""
        if self._key is not None and self._pieces:
            kind, index = self._key
            text = "".join(self._pieces)
            self._pieces.clear()
            if kind is CallArguments:
                self._parts.append(CallArguments(index, text))
            else:
                self._parts.append(ReasoningPart(text) if kind is ReasoningPart else TextPart(text))
        self._key = None
