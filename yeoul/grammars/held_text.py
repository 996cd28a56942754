"""A text that follows a grammar of the request's own, as it stands in a call; knows no family and no request.

The grammar is Lark as llguidance reads it, and is rewritten token by token. Where its rules do not lead back to themselves it
becomes one terminal: llguidance looks no further than a terminal, and where one ends another might begin in the same way,
with an escape of JSON or the mark that ends the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from yeoul.errors import InvalidRequestError
from yeoul.grammars.lark_rules import LarkRules, slashed
from yeoul.grammars.quoted_regex import quoted_regex, quoted_text

_TOKENS = re.compile(
    r"""
      (?P<skip>(?:\#|//)[^\n]*|[ \t]+)
    | (?P<import>%import[ \t]+common[ \t]*(?:\.[ \t]*(?P<name>\w+)(?:[ \t]*->[ \t]*(?P<given>\w+))?|\((?P<names>[^)]*)\)))
    | (?P<range>"(?:\\.|[^"\\\n])*"[ \t]*\.\.[ \t]*"(?:\\.|[^"\\\n])*")
    | (?P<string>"(?:\\.|[^"\\\n])*"(?P<caseless>i?))
    | (?P<regex>/(?P<pattern>(?:\\.|[^/\\\n])+)/(?P<flags>[imslux]*))
    | (?P<alias>->[ \t]*\w+)
    | (?P<end>%(?:ignore|llguidance|override|declare|json|regex|lark)|@[\w\-]+|<[^<>\s]+>)
    | (?P<word>[!?_]*[A-Za-z][\w\-]*)
    | (?P<number>[+-]?\d+)
    | (?P<line>\r?\n(?:\s|(?:\#|//)[^\n]*\n)*)
    | (?P<mark>.)
    """,
    re.VERBOSE,
)
_KINDS = ("skip", "import", "range", "string", "regex", "alias", "end", "word", "number", "line", "mark")
_OPTIONS = re.compile(r"%llguidance\s*\{\s*\}")
_COUNT = re.compile(r"[ \t]*\d")
_COMMON = {
    "DIGIT": "[0-9]", "HEXDIGIT": "[a-fA-F0-9]", "INT": "[0-9]+", "SIGNED_INT": r"(\+|-)?[0-9]+",
    "DECIMAL": r"([0-9]+\.[0-9]*)|(\.[0-9]+)", "_EXP": r"[eE](\+|-)?[0-9]+",
    "FLOAT": r"([0-9]+\.[0-9]*|\.[0-9]+)([eE](\+|-)?[0-9]+)?|[0-9]+[eE](\+|-)?[0-9]+",
    "SIGNED_FLOAT": r"(\+|-)?(([0-9]+\.[0-9]*|\.[0-9]+)([eE](\+|-)?[0-9]+)?|[0-9]+[eE](\+|-)?[0-9]+)",
    "NUMBER": r"([0-9]+)|([0-9]+\.[0-9]*|\.[0-9]+)([eE](\+|-)?[0-9]+)?|[0-9]+[eE](\+|-)?[0-9]+",
    "SIGNED_NUMBER": r"(\+|-)?(([0-9]+)|([0-9]+\.[0-9]*|\.[0-9]+)([eE](\+|-)?[0-9]+)?|[0-9]+[eE](\+|-)?[0-9]+)",
    "ESCAPED_STRING": r'"([^"\\]|\\.)*"', "LCASE_LETTER": "[a-z]", "UCASE_LETTER": "[A-Z]", "LETTER": "[A-Za-z]",
    "WORD": "[A-Za-z]+", "CNAME": "[_A-Za-z][_A-Za-z0-9]*", "WS_INLINE": r"[ \t]+", "WS": r"[ \t\f\r\n]+", "CR": r"\r",
    "LF": r"\n",    "NEWLINE": r"(\r?\n)+", "SH_COMMENT": r"#[^\n]*", "CPP_COMMENT": r"//[^\n]*", "SQL_COMMENT": r"--[^\n]*",
    "C_COMMENT": r"/\*[^*]*\*+(?:[^/*][^*]*\*+)*/",
}  # fmt: skip
"""What llguidance, and Lark, have under ``common``."""


class LarkToken(NamedTuple):
    """A token of a grammar; of the kind ``regex`` the text is the expression itself."""

    kind: str
    text: str


class HeldText:
    """One such text in a call.

    Raises:
        InvalidRequestError: the grammar has what cannot be held there.
    """

    def __init__(self, rules: LarkRules, definition: str) -> None:
        self._rules = rules
        self._tokens = list(_tokens(definition))
        self._definitions = list(_definitions(self._tokens))

    def in_json(self) -> str:
        """What stands between the quotes of a string of JSON."""
        if not self._is_recursive():
            return self._as_one(is_quoted=True)
        for kind, text in self._tokens:
            if kind == "regex" and quoted_regex(text) != text:
                raise InvalidRequestError(
                    f"its rules lead back to themselves, and the expression {text[:40]} takes quotes, backslashes or line"
                    " ends, which this model writes as escapes: such a grammar cannot be held in a call"
                )
        return self._nested(
            [_string_quoted(text) if kind == "string" else _written(kind, text) for kind, text in self._tokens]
        )

    def until(self, mark: str) -> str:
        """The text, and the mark behind it."""
        if not self._is_recursive():
            return self._rules.until_of(self._as_one(is_quoted=False), mark)
        literal = self._rules.literal(mark)
        if literal.startswith("<["):
            return f"{self._nested([_written(kind, text) for kind, text in self._tokens])} {literal}"
        return f"{self._nested(list(self._without(mark)))} {literal}"

    def _nested(self, written: list[str]) -> str:
        return self._rules.add("custom", f"%lark {{\n{''.join(written)}\n}}")

    def _without(self, mark: str) -> Iterator[str]:
        """No piece can have the mark, and no expression its first character, which would be read as more of it."""
        name, pieces = "PIECE", list[str]()
        while any(name in text for _, text in self._tokens):
            name += "X"
        for kind, text in self._tokens:
            if kind == "string" and mark in _string(text):
                raise InvalidRequestError(f"it writes {mark!r}, by which a call of this model's ends the text; leave it out")
            if kind == "regex":
                pieces.append(f"{name}_{len(pieces)}: {slashed(text)} & ~{slashed(f'(?s:.*){re.escape(mark[0])}(?s:.*)')}")
                yield f" {name}_{len(pieces) - 1} "
            else:
                yield text
        yield "\n" + "\n".join(pieces)

    def _is_recursive(self) -> bool:
        """Whether a rule leads back to itself."""
        rules = TopologicalSorter({name: {text for kind, text in body if kind == "word"} for name, body in self._definitions})
        try:
            rules.prepare()
        except CycleError:
            return True
        return False

    def _as_one(self, *, is_quoted: bool) -> str:
        """The name of the terminal."""
        prefix = self._rules.reserve("HELD")
        skipped = [body for name, body in self._definitions if name == ""]
        skip = f"{prefix}_SKIP"
        if skipped:
            bodies = (self._body(prefix, body, is_quoted=is_quoted, skip="") for body in skipped)
            self._rules.define(skip, f"({' | '.join(bodies)})*")
        for name, body in self._definitions:
            if name:
                between = skip if skipped and name.islower() else ""
                self._rules.define(_terminal(prefix, name), self._body(prefix, body, is_quoted=is_quoted, skip=between))
        return _terminal(prefix, "start")

    def _body(self, prefix: str, body: list[LarkToken], *, is_quoted: bool, skip: str) -> str:
        """A rule as a terminal; behind each of its pieces may stand what is skipped."""
        written = []
        for kind, text in body:
            is_piece = kind in ("string", "regex") or (kind == "word" and text.isupper())
            if kind == "word":
                text = _terminal(prefix, text)
            elif is_quoted:
                text = (
                    _string_quoted(text)
                    if kind == "string"
                    else _written(kind, quoted_regex(text) if kind == "regex" else text)
                )
            else:
                text = _written(kind, text)
            written.append(f"({text} {skip})" if is_piece and skip else {"[": "(", "]": ")?"}.get(text, text))
        return f"({''.join(written)})"


def _written(kind: str, text: str) -> str:
    return slashed(text) if kind == "regex" else text


def _terminal(prefix: str, name: str) -> str:
    return f"{prefix}_{'RULE' if name.islower() else 'TERMINAL'}_{name.lstrip('!?').upper()}"


def _definitions(tokens: list[LarkToken]) -> Iterator[tuple[str, list[LarkToken]]]:
    """Each name with what it stands for; what is skipped has none. An alias is left out.

    Raises:
        InvalidRequestError: a definition with more than a name.
    """
    place, end = 0, len(tokens)
    while place < end:
        if tokens[place].kind not in ("word", "end"):
            if tokens[place].kind not in ("line", "skip"):
                raise InvalidRequestError(f"there is {tokens[place].text[:40]!r} where the name of a rule should be")
            place += 1
            continue
        name = "" if tokens[place].kind == "end" else tokens[place].text.lstrip("!?")
        place += 1
        if name:
            while place < end and tokens[place].kind == "skip":
                place += 1
            if place == end or tokens[place].text != ":":
                raise InvalidRequestError(f"behind the name {name[:40]!r} of a rule there has to be a colon")
            place += 1
        body: list[LarkToken] = []
        while place < end and not (tokens[place].kind == "line" and _is_over(tokens, place)):
            if tokens[place].kind == "alias":
                place += 1
                continue
            body.append(LarkToken("skip", " ") if tokens[place].kind == "line" else tokens[place])
            place += 1
        yield name, body


def _is_over(tokens: list[LarkToken], place: int) -> bool:
    """Whether a line that begins there goes on with nothing of the line before."""
    while place < len(tokens) and tokens[place].kind in ("line", "skip"):
        place += 1
    return place == len(tokens) or tokens[place].kind in ("word", "end")


def _tokens(definition: str) -> Iterator[LarkToken]:
    """Without imports and ranges: what they stand for is written out."""
    for found in _TOKENS.finditer(_OPTIONS.sub("", definition)):
        kind, text = next(kind for kind in _KINDS if found[kind] is not None), found[0]
        match kind:
            case "import":
                for name in [found["name"]] if found["names"] is None else found["names"].split(","):
                    if (pattern := _COMMON.get(name.strip())) is None:
                        raise InvalidRequestError(f"common has no {name.strip()[:40]!r}")
                    yield from (LarkToken("line", "\n"), LarkToken("word", found["given"] or name.strip()))
                    yield from (LarkToken("mark", ":"), LarkToken("regex", pattern))
            case "range":
                first, end = (_string(each) for each in re.split(r"(?<=\")[ \t]*\.\.[ \t]*(?=\")", text))
                yield LarkToken("regex", f"[{re.escape(first)}-{re.escape(end)}]")
            case "regex":
                pattern = found["pattern"].replace(r"\/", "/")
                yield LarkToken("regex", f"(?{found['flags']}:{pattern})" if found["flags"] else pattern)
            case "end" if text != "%ignore":
                raise InvalidRequestError(f"{text[:40]} stands for no text that a call could be held to; leave it out")
            case "mark" if text in '"/':
                raise InvalidRequestError(f"the string or expression at {found.start()} has no end")
            case "mark" if text == "=" or (text == "~" and not _COUNT.match(found.string, found.end())):
                raise InvalidRequestError(f"{text!r} cannot be held in a call; leave it out")
            case _:
                yield LarkToken(kind, " " if kind == "skip" else text)


def _string_quoted(text: str) -> str:
    if text.endswith("i"):
        return slashed(quoted_regex(f"(?i:{re.escape(_string(text))})"))
    return json.dumps(quoted_text(_string(text)), ensure_ascii=False)


def _string(text: str) -> str:
    """What a string of Lark's says, which has ``\\xAA`` besides JSON's escapes."""
    plain = re.sub(r"(\\[^x])|\\x([0-9a-fA-F]{2})", lambda each: each[1] or rf"\u00{each[2]}", text.removesuffix("i"))
    try:
        return str(json.loads(plain))
    except ValueError:
        raise InvalidRequestError(f"{text[:40]} is no string") from None
