"""LarkRules: the rules of a grammar as they are needed; special tokens in texts stand as what they are. Knows no family."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple


class Reasoning(NamedTuple):
    """What a model may think before its answer. ``is_open``: the answer begins inside it."""

    begin: str
    end: str
    is_open: bool


class LarkRules:
    """``special`` are the special tokens that stand in markers, by their text: as text they could not be written."""

    def __init__(self, special: Mapping[str, int]) -> None:
        self._written: list[str] = []
        self._special = special
        self._pattern = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True)))) if special else None

    def grammar(self, start: str) -> str:
        """The whole grammar."""
        return "\n".join(["%llguidance {}", f"start: {start}", *self._written, "TEXT: /(.|\\n)*/"])

    def add(self, name: str, body: str) -> str:
        """A rule of a name that begins so; returns the name."""
        name, bracket, attributes = name.partition("[")
        name = f"{name}_{len(self._written)}"
        self._written.append(f"{name}{bracket}{attributes}: {body}")
        return name

    def literal(self, text: str) -> str:
        """A text in a rule."""
        return " ".join(
            f"<[{self._special[piece]}]>" if is_special else json.dumps(piece, ensure_ascii=False)
            for is_special, piece in self._pieces(text)
        )

    def until(self, text: str) -> str:
        """Any text up to this one, and that. What is a special token cannot stand in a text, so it needs no care."""
        if not text:
            return "TEXT"
        (is_special, first), *_ = self._pieces(text)
        if is_special:
            return f"TEXT {self.literal(text)}"
        found = self.add("until[lazy]", f"TEXT {json.dumps(first, ensure_ascii=False)}")
        return f"{found} {self.literal(text[len(first) :])}"

    def reasoning(self, reasoning: Reasoning | None) -> str:
        """What may be thought before an answer."""
        if reasoning is None:
            return ""
        thought = f"{self.until(reasoning.end)} /[ \\n]{{0,4}}/"
        return thought if reasoning.is_open else f"({self.literal(reasoning.begin)} {thought})?"

    def _pieces(self, text: str) -> list[tuple[bool, str]]:
        pieces, place = [], 0
        for match in self._pattern.finditer(text) if self._pattern else ():
            pieces += [(False, text[place : match.start()]), (True, match[0])]
            place = match.end()
        pieces.append((False, text[place:]))
        return [(is_special, piece) for is_special, piece in pieces if piece]


def after_reasoning(grammar: str, reasoning: Reasoning, special: Mapping[str, int]) -> str:
    """The same grammar, behind what the model may think."""
    rules = LarkRules(special)
    try:
        ((form,),) = json.loads(grammar).values()
    except ValueError:
        form = {"lark_grammar": grammar}
    start = {"lark_grammar": rules.grammar(f"{rules.reasoning(reasoning)} @form")}
    return json.dumps({"grammars": [start, {"name": "form", **form}]}, ensure_ascii=False)
