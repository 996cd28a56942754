"""Finds stop strings in text that arrives in pieces; knows no tokens. The detokenizer calls it.

Each stop string is followed by its own Knuth-Morris-Pratt automaton (Knuth, Morris, Pratt 1977), whose failure table grows
only as far as the text has ever matched: the work is a few steps a character however long a stop string is, and the answer
does not depend on where the text was cut into pieces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


class _Follower:
    """How far one stop string has matched at the end of the text so far."""

    __slots__ = ("_failure", "_pattern", "num_matched")

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        # _failure[k]: the longest proper prefix of pattern[:k] that is also its suffix, for every k reached so far.
        self._failure = [0, 0]
        self.num_matched = 0

    def advance(self, character: str) -> bool:
        """Takes one character; True if the stop string ends with it."""
        pattern, failure, matched = self._pattern, self._failure, self.num_matched
        while matched and pattern[matched] != character:
            matched = failure[matched]
        if pattern[matched] == character:
            matched += 1
            if matched == len(failure):
                failure.append(self._next_failure())
        if matched == len(pattern):
            self.num_matched = failure[matched]
            return True
        self.num_matched = matched
        return False

    def _next_failure(self) -> int:
        pattern, failure = self._pattern, self._failure
        last = pattern[len(failure) - 1]
        border = failure[-1]
        while border and pattern[border] != last:
            border = failure[border]
        return border + 1 if pattern[border] == last else 0


class StopStringMatcher:
    """Passes text through until a stop string is complete, and holds back what may be the beginning of one.

    The stop string whose last character comes first ends the text; of those that end together, the longest. ``matched`` is
    that string. The text goes up to its first character, or with ``include_match`` to its last; then nothing needs to be
    held back.
    """

    def __init__(self, stop_strings: Sequence[str], *, include_match: bool = False) -> None:
        self._stop_strings = sorted(stop_strings, key=len, reverse=True)
        self._followers = [_Follower(string) for string in self._stop_strings]
        self._first_character = re.compile("[" + re.escape("".join({string[0] for string in stop_strings})) + "]")
        self._include_match = include_match
        self._held = ""
        self.matched: str | None = None

    def push(self, text: str, *, may_stop: bool = True) -> str:
        """Takes more text and returns what can be released. Without ``may_stop`` a stop string that ends here is ignored."""
        if self.matched is not None:
            return ""
        num_held = len(self._held)
        text = self._held + text
        if (found := self._find(text, num_held, may_stop)) is not None:
            self.matched, end = found
            self._held = ""
            return text[:end] if self._include_match else text[: end - len(self.matched)]
        num_to_hold = 0 if self._include_match else max(follower.num_matched for follower in self._followers)
        border = len(text) - num_to_hold
        self._held = text[border:]
        return text[:border]

    def flush(self) -> str:
        """Releases what is held: no more text comes."""
        held, self._held = self._held, ""
        return held

    def _find(self, text: str, position: int, may_stop: bool) -> tuple[str, int] | None:
        """Follows ``text`` from ``position``; the stop string that is complete first, and the place after it."""
        followers = self._followers
        is_idle = not any(follower.num_matched for follower in followers)
        while position < len(text):
            if is_idle:
                beginning = self._first_character.search(text, position)
                if beginning is None:
                    return None
                position = beginning.start()
            character = text[position]
            position += 1
            complete = [follower.advance(character) for follower in followers]
            if may_stop and any(complete):
                return self._stop_strings[complete.index(True)], position
            is_idle = not any(follower.num_matched for follower in followers)
        return None
