"""A string that a call writes as it is, without quotes and escapes: what its schema says of it, as patterns; knows no family.

llguidance holds strings of JSON to their schemas; these are none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from yeoul.errors import InvalidRequestError

_MAX_LENGTH = 10_000  # of a counted repetition
_PIECES = re.compile(r"\\.|.", re.DOTALL)
_ASCII = {r"\d": "0-9", r"\w": "A-Za-z0-9_"}  # what JSON schemas mean; llguidance's are of all scripts
_NOT_ASCII = {r"\D": "[^0-9]", r"\W": "[^A-Za-z0-9_]"}


def limits_of_text(part: Mapping[str, Any]) -> list[str]:
    """Patterns, all of which the whole string has to fit; none where any string fits. A ``format`` is not held.

    Raises:
        InvalidRequestError: a length or a pattern that cannot be held.
    """
    limits = []
    if (pattern := part.get("pattern")) is not None:
        if not isinstance(pattern, str):
            raise InvalidRequestError("a pattern has to be a string")
        limits.append(_whole(pattern))
    shortest, longest = part.get("minLength", 0), part.get("maxLength", "")
    if (shortest, longest) != (0, ""):
        for length in (shortest, longest):
            if length != "" and (type(length) is not int or not 0 <= length <= _MAX_LENGTH):
                raise InvalidRequestError(f"the length {str(length)[:20]} of a string is none from 0 to {_MAX_LENGTH:,}")
        if longest != "" and longest < shortest:
            raise InvalidRequestError(f"no string has {shortest} characters at least and {longest} at most")
        limits.append(f"(?s:.{{{shortest},{longest}}})")
    return limits


def _whole(pattern: str) -> str:
    """A pattern for the whole of a text in which ``pattern`` is found somewhere, or where its anchors say."""
    pieces = _PIECES.findall(pattern)
    depth, is_class, has_alternatives = 0, False, False
    for index, piece in enumerate(pieces):
        match piece:
            case "[":
                is_class = True
            case "]":
                is_class = False
            case "(" | ")" if not is_class:
                depth += 1 if piece == "(" else -1
            case "|" if not is_class and depth == 0:
                has_alternatives = True
        if piece in _ASCII:
            pieces[index] = _ASCII[piece] if is_class else f"[{_ASCII[piece]}]"
        elif piece in _NOT_ASCII and not is_class:
            pieces[index] = _NOT_ASCII[piece]
    # An anchor that belongs to one of several alternatives stays where it is, and is refused when the grammar is compiled.
    begins = pieces[:1] == ["^"] and not has_alternatives
    ends = pieces[-1:] == ["$"] and not has_alternatives
    found = "".join(pieces[begins : len(pieces) - ends])
    return f"{'' if begins else '(?s:.*)'}(?:{found}){'' if ends else '(?s:.*)'}"
