"""The text of one answer as it comes, for readers that are written as if all of it were there; knows no format.

A reader is a generator that yields where it needs text that has not come. So it never reads anything twice, and since it
decides nothing by where one piece of text ends, it finds the same in every way of cutting a text into pieces.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Generator, Sequence
from functools import lru_cache
from typing import TypeVar

_Result = TypeVar("_Result")
Steps = Generator[None, None, _Result]
Sink = Callable[[str], object]

SPACE = re.compile(r"[ \t\r\n]*")
_MAX_NUM_SPACES_AHEAD = 32


class DamagedError(Exception):
    """What follows on the tape is not what the format has here."""


class CutError(DamagedError):
    """The answer ends here, and the format has more."""


class Tape:
    """The part of an answer that has come and is not read, with the places at which special tokens begin.

    What is unread is only ever the beginning of a marker, an escape or a few spaces: the rest is passed on as it comes.

    Args:
        marked: the texts of the tokens whose places are told by ``feed``. A marker of a format that begins with one of
            them counts only at such a place; any other marker counts wherever its text stands.
    """

    def __init__(self, marked: Collection[str] = ()) -> None:
        self._marked = tuple(marked)
        self._text = ""
        self._position = 0
        self._num_gone = 0  # characters that came before _text; _marks count from the answer's beginning
        self._marks: list[int] = []
        self._kinds: dict[tuple[str, ...], _Kinds] = {}
        self._record: list[str] | None = None
        self.is_ended = False

    @property
    def num_unread(self) -> int:
        """Characters that have come and are not read."""
        return len(self._text) - self._position

    def feed(self, text: str, marks: Sequence[int] = ()) -> None:
        """Adds text; ``marks`` are the ascending places in it at which the text of a marked token begins."""
        start, num_kept = self._position, self.num_unread
        self._text = self._text[start:] + text if num_kept else text
        self._num_gone += start
        self._marks += [self._num_gone + num_kept + mark for mark in marks]
        self._position = 0

    def is_marked(self, marker: str) -> bool:
        """Whether a marker is, or begins with, a token that is told by its place."""
        return marker.startswith(self._marked) if self._marked else False

    def start_recording(self) -> None:
        """Keeps what is read from here on, until ``stop_recording``."""
        self._record = []

    def stop_recording(self) -> str:
        """What was read since ``start_recording``, or nothing."""
        record, self._record = self._record, None
        return "".join(record or ())

    def take(self, num_characters: int) -> str:
        """Reads characters that are known to be there."""
        start = self._position
        self._position = start + num_characters
        text = self._text[start : self._position]
        if self._record is not None and text:
            self._record.append(text)
        return text

    def put_back(self, text: str) -> None:
        """Undoes the reading of the last characters, which were ``text``."""
        if self._record is not None:
            self._record = ["".join(self._record)[: -len(text) or None]]
        start = self._position - len(text)
        if start >= 0:
            self._position = start
        else:
            shift = -start
            self._text = text[:shift] + self._text
            self._num_gone -= shift
            self._position = 0

    def more(self) -> Steps[bool]:
        """Waits for a character; False at the end of the answer."""
        while self._position == len(self._text):
            if self.is_ended:
                return False
            yield
        return True

    def peek(self, num_characters: int = 1) -> Steps[str]:
        """The next characters, which stay unread. Raises CutError if the answer has fewer."""
        while self.num_unread < num_characters:
            if self.is_ended:
                raise CutError
            yield
        return self._text[self._position : self._position + num_characters]

    def skip_space(self) -> Steps[None]:
        """Reads spaces and line ends."""
        yield from self.pass_run(SPACE, _drop)

    def next_character(self) -> Steps[str]:
        """The next character that is no space, which stays unread. Raises CutError at the end of the answer."""
        yield from self.skip_space()
        return (yield from self.peek())

    def pass_run(self, pattern: re.Pattern[str], sink: Sink) -> Steps[None]:
        """Passes characters on while they are of a kind; ``pattern`` is a repeated class of characters."""
        while True:
            match = pattern.match(self._text, self._position)
            end = match.end() if match is not None else self._position
            if end > self._position:
                sink(self.take(end - self._position))
            if end < len(self._text) or self.is_ended:
                return
            yield

    def starts_with(self, literal: str) -> Steps[bool]:
        """Whether the text goes on with a literal, which stays unread."""
        while True:
            if self._text.startswith(literal, self._position):
                return not self.is_marked(literal) or self._has_mark(self._position)
            num_there = self.num_unread
            if num_there >= len(literal) or self.is_ended or not literal.startswith(self._text[self._position :]):
                return False
            yield

    def skip(self, *literals: str) -> Steps[str]:
        """Reads the first of some literals that follows after any space; nothing, not even the space, where none does.

        While recording, where the answer ends in the middle of a literal, that piece of it is read.
        """
        spaces: list[str] = []
        yield from self.pass_run(SPACE, spaces.append)
        for literal in filter(None, literals):
            if (yield from self.starts_with(literal)):
                return self.take(len(literal))
        if self._record is not None and self.num_unread and self._is_cut(literals):
            self.take(self.num_unread)
        elif spaces:
            self.put_back("".join(spaces))
        return ""

    def expect(self, *literals: str) -> Steps[str]:
        """Reads the first of some literals that follows after any space, or raises."""
        yield from self.skip_space()
        for literal in literals:
            if (yield from self.starts_with(literal)):
                return self.take(len(literal))
        raise CutError if self._is_cut(literals) else DamagedError

    def pass_until(self, markers: tuple[str, ...], sink: Sink, *, holds_beginning: bool = False) -> Steps[str | None]:
        """Passes text on until one of some markers begins, which stays unread; None at the end of the answer.

        The marker that begins first counts. None of them is the beginning of another. With ``holds_beginning`` a marker in
        whose middle the answer ends stays unread too.
        """
        while True:
            place, marker = self._find(markers, len(self._text), is_open=holds_beginning or not self.is_ended)
            if place > self._position:
                sink(self.take(place - self._position))
            if marker is not None:
                return marker
            if self.is_ended:
                return None
            yield

    def collect_until(self, markers: tuple[str, ...], max_num_characters: int) -> Steps[tuple[str, str]]:
        """Reads up to the first of some markers; that text, and the marker, which stays unread. Raises if there is none."""
        size = max_num_characters + max(map(len, markers))
        while True:
            window_end = min(self._position + size, len(self._text))
            place, marker = self._find(markers, window_end, is_open=not self.is_ended)
            if marker is not None:
                return self.take(place - self._position), marker
            if window_end - self._position == size:
                raise DamagedError
            if self.is_ended:
                raise CutError
            yield

    def is_followed_by(self, marker: str, followers: tuple[str, ...]) -> Steps[bool | None]:
        """Whether one of some literals follows on the marker here, after a few spaces; None if the answer ends before."""
        while True:
            rest = self._text[self._position + len(marker) : self._position + len(marker) + 2 * _MAX_NUM_SPACES_AHEAD]
            ahead = rest.lstrip(" \t\r\n")
            if len(rest) - len(ahead) > _MAX_NUM_SPACES_AHEAD:
                return False
            if ahead.startswith(followers):
                return True
            if not any(follower.startswith(ahead) for follower in followers):
                return False
            if self.is_ended:
                return None
            yield

    def _find(self, markers: tuple[str, ...], end: int, *, is_open: bool) -> tuple[int, str | None]:
        """Where the first of some markers is, and which; or where one begins that has not come whole, or the end."""
        kinds = self._kinds.get(markers) or self._kinds.setdefault(markers, _Kinds(markers, self.is_marked))
        place, found = self._find_marked(kinds.marked, end, is_open=is_open) if kinds.marked and self._marks else (end, None)
        if kinds.free:
            # A free marker that began before the place would win; one that begins after it is of no interest.
            search_end = min(end, place + kinds.free_size)
            # Looking for the first character alone passes over ordinary text several times as fast.
            first = kinds.first_character.search(self._text, self._position, search_end)
            if first is not None:
                pattern = kinds.or_beginning if is_open and search_end == end else kinds.whole
                match = pattern.search(self._text, first.start(), search_end)
                if match is not None and match.start() < place:
                    place, found = match.start(), match["whole"]
        return place, found

    def _find_marked(self, markers: Sequence[str], end: int, *, is_open: bool) -> tuple[int, str | None]:
        """The same for those markers that count only where a token begins."""
        size = max(map(len, markers))
        index = bisect_left(self._marks, self._num_gone + self._position)
        while index < len(self._marks) and (mark := self._marks[index] - self._num_gone) < end:
            text = self._text[mark : min(end, mark + size)]
            for marker in markers:
                if text.startswith(marker):
                    return mark, marker
                if is_open and marker.startswith(text):
                    return mark, None
            index += 1
        return end, None

    def _has_mark(self, position: int) -> bool:
        index = bisect_left(self._marks, self._num_gone + position)
        return index < len(self._marks) and self._marks[index] == self._num_gone + position

    def _is_cut(self, literals: tuple[str, ...]) -> bool:
        """Whether the answer ends here or in the middle of a literal."""
        return self.is_ended and any(literal.startswith(self._text[self._position :]) for literal in literals)


class _Kinds:
    """Some markers that are looked for together: those that count only where a token begins, and those that count anywhere.

    ``whole`` finds the first of the latter, ``or_beginning`` also one of which only the beginning has come.
    """

    def __init__(self, markers: tuple[str, ...], is_marked: Callable[[str], bool]) -> None:
        self.marked = [marker for marker in markers if is_marked(marker)]
        self.free = [marker for marker in markers if not is_marked(marker)]
        self.free_size = max(map(len, self.free), default=0)
        self.first_character, self.whole, self.or_beginning = _patterns(tuple(self.free))


@lru_cache(maxsize=256)
def _patterns(markers: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    first_characters = "|".join({re.escape(marker[0]) for marker in markers})
    whole = "(?P<whole>" + "|".join(map(re.escape, markers)) + ")"
    beginnings = "|".join(re.escape(marker[:size]) for marker in markers for size in range(len(marker) - 1, 0, -1))
    or_beginning = rf"{whole}|(?:{beginnings})\Z" if beginnings else whole
    return re.compile(first_characters), re.compile(whole), re.compile(or_beginning)


def _drop(text: str) -> None:
    pass
