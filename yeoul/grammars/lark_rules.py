"""LarkRules: the rules of a grammar as they are needed; special tokens in texts stand as what they are. Knows no family."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
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
        self._num_names = 0
        self._special = special
        self._pattern = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True)))) if special else None

    def grammar(self, start: str) -> str:
        """The whole grammar."""
        return "\n".join(["%llguidance {}", f"start: {start}", *self._written, "TEXT: /(.|\\n)*/"])

    def add(self, name: str, body: str) -> str:
        """A rule of a name that begins so; returns the name."""
        name, bracket, attributes = name.partition("[")
        name = self.reserve(name)
        self.define(f"{name}{bracket}{attributes}", body)
        return name

    def reserve(self, name: str) -> str:
        """A name that begins so, for a rule that is defined later: others, and itself, may be written with it."""
        self._num_names += 1
        return f"{name}_{self._num_names}"

    def define(self, name: str, body: str) -> None:
        """The rule of a reserved name."""
        self._written.append(f"{name}: {body}")

    def literal(self, text: str) -> str:
        """A text in a rule."""
        return " ".join(
            f"<[{self._special[piece]}]>" if is_special else json.dumps(piece, ensure_ascii=False)
            for is_special, piece in self._pieces(text)
        )

    def until(self, text: str, limits: Sequence[str] = ()) -> str:
        """Any text up to this one, and that. What is a special token cannot stand in a text, so it needs no care.

        ``limits`` are patterns, all of which the text before has to fit as a whole.
        """
        if not limits:
            return self._until("TEXT", text)
        return self.until_of(" & ".join(map(slashed, limits)), text)

    def until_of(self, terminal: str, text: str) -> str:
        """A text of this terminal up to ``text``, and that."""
        is_special, first = next(iter(self._pieces(text)), (True, ""))
        if not is_special:  # a text that does not fit yet must not go on over it
            terminal += f" & ~{slashed(f'(?s:.*){re.escape(first)}(?s:.*)')}"
        return self._until(self.add("TEXT", terminal), text)

    def _until(self, before: str, text: str) -> str:
        is_special, first = next(iter(self._pieces(text)), (True, ""))
        if is_special:
            return f"{before} {self.literal(text)}"
        found = self.add("until[lazy]", f"{before} {json.dumps(first, ensure_ascii=False)}")
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


def slashed(pattern: str) -> str:
    """An expression as Lark has it."""
    return "/" + pattern.replace("/", r"\/").replace("\\\n", "\n").replace("\n", r"\n") + "/"


def after_reasoning(grammar: str, reasoning: Reasoning, special: Mapping[str, int]) -> str:
    """The same grammar, behind what the model may think."""
    rules = LarkRules(special)
    form, *others = json.loads(grammar)["grammars"] if grammar.startswith("{") else [{"lark_grammar": grammar}]
    start = {"lark_grammar": rules.grammar(f"{rules.reasoning(reasoning)} @form")}
    return json.dumps({"grammars": [start, {**form, "name": "form"}, *others]}, ensure_ascii=False)
