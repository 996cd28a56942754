"""The grammar of an answer that calls tools: nothing but calls, or free text in which every call fits its tool.

Knows no family; ``CallSpelling`` says how one writes a call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from yeoul.errors import InvalidRequestError
from yeoul.grammars.json_schema import embedded_schema
from yeoul.text.answers.call_format import CallSpelling

_TEXT = "TEXT: /(.|\\n)*/"


class SpelledCall(NamedTuple):
    """A tool's call: how it is written, and what its arguments are."""

    spelling: CallSpelling
    schema: Mapping[str, Any]


class Reasoning(NamedTuple):
    """What may come before the calls. ``is_open``: the answer begins inside it."""

    begin: str
    end: str
    is_open: bool


def calls_grammar(
    calls: Sequence[SpelledCall],
    special: Mapping[str, int],
    *,
    must_call: bool,
    is_single: bool,
    reasoning: Reasoning | None = None,
) -> str:
    """Lark.

    Args:
        calls: one a tool, of one family.
        special: the special tokens that stand in markers, by their text: as text they could not be written.
        must_call: the answer is nothing but calls, behind its reasoning; else it is free text with calls in it.
        is_single: one call at most.
        reasoning: what the model may think first.

    Raises:
        InvalidRequestError: this family cannot be held to calls, since they stand in free text without a mark.
    """
    rules = _Rules(special)
    form = calls[0].spelling
    bodies = [rules.call(call, without=_mark_of(form) if not must_call else "") for call in calls]
    one = f"({' | '.join(bodies)})"
    if must_call:
        more = "" if is_single else f" ({rules.literal(form.separator)} {one})*"
        section = f"{rules.literal(form.section_begin)} {one}{more} {rules.literal(form.section_end)}"
        start = f"{rules.reasoning(reasoning)} {section}"
    else:
        mark = _mark_of(form)
        if not mark:
            raise InvalidRequestError(
                "this model's calls have no mark in free text, so strict cannot be kept with tool_choice auto: set it to"
                " required, or leave strict out",
                param="tools",
            )
        more = "" if is_single else f" ({rules.literal(form.separator)} {one})*"
        rules.add("mark[lazy]", f"TEXT {rules.literal(mark)}")
        rest = form.section_begin[len(mark) :] if form.section_begin else ""
        section = f"mark {rules.literal(rest)} {one}{more} {rules.literal(form.section_end)}"
        start = f"({section})? TEXT" if is_single else f"({section})* TEXT"
    return "\n".join(["%llguidance {}", f"start: {start}", *rules.written, _TEXT])


def _mark_of(form: CallSpelling) -> str:
    return form.section_begin or form.trigger


class _Rules:
    """Rules as they are needed; ``written`` are all of them."""

    def __init__(self, special: Mapping[str, int]) -> None:
        self.written: list[str] = []
        self._special = special
        self._pattern = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True)))) if special else None

    def add(self, name: str, body: str) -> str:
        """The rule's name, without its attributes."""
        self.written.append(f"{name}: {body}")
        return name.partition("[")[0]

    def literal(self, text: str) -> str:
        """A text in a rule; special tokens in it stand as what they are."""
        if not text:
            return ""
        found: list[str] = []
        place = 0
        for match in self._pattern.finditer(text) if self._pattern else ():
            found += [text[place : match.start()], f"<[{self._special[match[0]]}]>"]
            place = match.end()
        found.append(text[place:])
        return " ".join(
            piece if index % 2 else json.dumps(piece, ensure_ascii=False) for index, piece in enumerate(found) if piece
        )

    def reasoning(self, reasoning: Reasoning | None) -> str:
        """What may be thought before the first call."""
        if reasoning is None:
            return ""
        ended = self.add("thought[lazy]", f"TEXT {self.literal(reasoning.end)}")
        space = r"/[ \n]{0,4}/"
        return f"{ended} {space}" if reasoning.is_open else f"({self.literal(reasoning.begin)} {ended} {space})?"

    def call(self, call: SpelledCall, without: str) -> str:
        """A call; ``without`` is what of its beginning was read before."""
        form = call.spelling
        begin = form.begin
        if without and not form.section_begin:
            begin = begin.removeprefix(without)
        number = len(self.written)
        match form.arguments:
            case "json":
                arguments = f"%json {embedded_schema(dict(call.schema))}"
            case "tagged":
                arguments = self._fields(call, lambda key, schema: self._tagged(form, key, schema))
            case "python":
                arguments = self._fields(call, lambda key, schema: f"{self.literal(key + '=')} {_python(schema)}")
            case "gemma":
                return self.add(f"call_{number}[lazy]", f"{self.literal(begin)} TEXT {self.literal(form.end)}")
        return self.add(f"call_{number}", f"{self.literal(begin)} {arguments} {self.literal(form.end)}")

    def _fields(self, call: SpelledCall, write: Any) -> str:
        """Arguments in the schema's order, those that are not required may be left out."""
        schema = call.schema
        required = set(schema.get("required", ()))
        separator = self.literal(call.spelling.argument_separator)
        fields = []
        is_first = True
        for key, part in schema.get("properties", {}).items():
            field = write(key, part if isinstance(part, dict) else {})
            if separator and not is_first:
                field = f"{separator} {field}"
            if key in required:
                fields.append(field)
                is_first = False
            elif not separator or not is_first:
                fields.append(f"({field})?")
        return " ".join(fields)

    def _tagged(self, form: CallSpelling, key: str, schema: Mapping[str, Any]) -> str:
        before, _, after = form.argument.replace("{key}", key).partition("{value}")
        if schema.get("type") == "string" and "enum" not in schema:
            value = self.add(f"value_{len(self.written)}[lazy]", f"TEXT {self.literal(after)}")
            return f"{self.literal(before)} {value}"
        if isinstance(schema.get("enum"), list) and all(isinstance(value, str) for value in schema["enum"]):
            choices = " | ".join(self.literal(value) for value in schema["enum"])
            return f"{self.literal(before)} ({choices}) {self.literal(after)}"
        return f"{self.literal(before)} %json {embedded_schema(dict(schema))} {self.literal(after)}"


def _python(schema: Mapping[str, Any]) -> str:
    match schema.get("type"):
        case "boolean":
            return '("True" | "False")'
        case "null":
            return '"None"'
    return f"%json {embedded_schema(dict(schema))}"
