"""begun_json(): what came whole of a JSON object that was cut off; knows no blocks and no calls."""

from __future__ import annotations

import re

_PIECE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?P<end>")?|[][{}:,]|[^][{}:,"\s]+', re.DOTALL)
_CLOSING = {"{": "}", "[": "]"}


def begun_json(text: str) -> str:
    """The text up to the last value that is whole, and what closes it: ``{"a": ["x"]}`` of ``{"a": ["x", "y``.

    A number is whole where something follows it. Of a text that is damaged it makes no JSON.
    """
    closing: list[str] = []  # of what is open
    end, before = 0, ""
    for found in _PIECE.finditer(text):
        piece = found[0]
        if piece[0] == '"' and not found["end"]:
            break
        if piece in _CLOSING:
            closing.append(_CLOSING[piece])
        elif closing and piece in _CLOSING.values():
            closing.pop()
        is_value = before == ":" or (closing[-1:] == ["]"] and before in ("[", ","))
        if piece in "{}[]" or (is_value and (piece[0] == '"' or piece in ("true", "false", "null"))):
            end = found.end()
        elif piece == ",":
            end = found.start()
        before = piece
    return text[:end] + "".join(reversed(closing))
