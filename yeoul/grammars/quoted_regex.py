"""A regular expression of texts, as one of the same texts inside of a string of JSON, with its escapes; knows no Lark.

Expressions are those of Rust's regex crate. What may hold a character that JSON escapes, and cannot be read here, is refused.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator

from yeoul.errors import InvalidRequestError

ESCAPED = ['"', "\\", *map(chr, range(0x20))]
"""The characters that stand in JSON as escapes."""

_PLAIN = r'[^"\\\x00-\x1f]'
_PIECES = re.compile(
    r"""
      (?P<class>\[\^?\]?(?:\\.|[^\]\\])*\])
    | (?P<property>\\[pP](?:[A-Z]|\{\^?[A-Z][a-z]?\}))
    | (?P<group>\(\?(?P<flags>[a-zA-Z-]*)(?P<colon>[:)]))
    | (?P<code>\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[xuU]\{[0-9a-fA-F]{1,6}\}))
    | (?P<escape>\\.)
    | (?P<count>\{[0-9]*,?[0-9]*\})
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
# Those that Python reads as Rust does.
_PLAIN_CLASS = re.compile(r"\[(?:\\[xu][0-9a-fA-F]{2}|\\[^bBpPxu]|(?!&&|--|~~)[^\\\[])*\]", re.DOTALL)
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_OF_ASCII: dict[str, Callable[[str], bool]] = {"d": str.isdigit, "w": str.isalnum, "s": lambda text: text in "\t\n\v\f\r"}


def quoted_regex(pattern: str) -> str:
    """The expression, behind its flags.

    Raises:
        InvalidRequestError: it has what cannot be told in JSON's terms.
    """
    return "".join(_quoted(pattern))


def quoted_text(text: str) -> str:
    """A text as it stands inside of a string of JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _quoted(pattern: str) -> Iterator[str]:
    dots_end_at_lines, outer = True, list[bool]()
    for found in _PIECES.finditer(pattern):
        piece = found[0]
        match found.lastgroup:
            case "class":
                yield _either(piece, _members_of_class(piece))
            case "property":
                yield _either(piece, _members_of_property(piece))
            case "group":
                on, _, off = found["flags"].partition("-")
                if "x" in on:
                    raise InvalidRequestError(
                        f"{piece} of an expression cannot be held; write it without spaces and comments"
                    )
                if found["colon"] == ":":
                    outer.append(dots_end_at_lines)
                dots_end_at_lines = "s" in off or (dots_end_at_lines and "s" not in on)
                yield piece
            case "code":
                yield _character(chr(int(piece[2:].strip("{}"), 16)), piece)
            case "escape" if piece[1] in "dwsDWS":
                yield _either(piece, [each for each in ESCAPED if _OF_ASCII[piece[1].lower()](each) == piece[1].islower()])
            case "escape":
                yield _character(_CONTROLS.get(piece[1], piece[1]), piece)
            case "other" if piece == ".":
                yield _either(".", [each for each in ESCAPED if not dots_end_at_lines or each != "\n"])
            case "other":
                if piece == "(":
                    outer.append(dots_end_at_lines)
                elif piece == ")" and outer:
                    dots_end_at_lines = outer.pop()
                yield _character(piece, piece)
            case _:
                yield piece


def _character(character: str, written: str) -> str:
    """``written`` stands for it where it needs no escape."""
    return _escape(character) if character in ESCAPED else written


def _escape(*characters: str) -> str:
    """One of these, as JSON writes it."""
    short = "".join(re.escape(text[1]) for text in map(quoted_text, characters) if len(text) == 2)
    codes = "|".join(text[4:] for text in map(quoted_text, characters) if len(text) > 2)
    ways = [*([f"[{short}]"] if short else []), *([f"u00(?:{codes})"] if codes else [])]
    return rf"(?-i:\\(?:{'|'.join(ways)}))"  # a capital in an escape would be another, or none


def _either(written: str, members: list[str]) -> str:
    """What ``written`` stands for, of which these need an escape."""
    if not members:
        return written
    return f"(?:{_PLAIN if written == '.' else f'[{written}&&{_PLAIN}]'}|{_escape(*members)})"


def _members_of_class(piece: str) -> list[str]:
    if _PLAIN_CLASS.fullmatch(piece) is None:
        raise InvalidRequestError(f"the class {piece[:40]} of an expression cannot be held; write it with plain characters")
    try:
        found = re.compile(piece, re.ASCII)
    except re.error as error:
        raise InvalidRequestError(f"the class {piece[:40]} of an expression cannot be held: {error}") from None
    return [each for each in ESCAPED if found.fullmatch(each)]


def _members_of_property(piece: str) -> list[str]:
    """``\\pL``, ``\\p{Lu}``, ``\\P{N}``."""
    name = piece[2:].strip("{}")
    is_not = (piece[1] == "P") != name.startswith("^")
    return [each for each in ESCAPED if unicodedata.category(each).startswith(name.lstrip("^")) != is_not]
