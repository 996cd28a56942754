"""The grammar of an answer that calls tools: nothing but calls, or free text in which every call fits its tool.

Knows no family; ``CallSpelling`` says how one writes a call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from yeoul.errors import InvalidRequestError
from yeoul.grammars.json_schema import check_depth, embedded_schema, shared_definitions
from yeoul.grammars.lark_rules import LarkRules, Reasoning
from yeoul.text.answers.call_format import CallSpelling

_KEYWORD = re.compile(r"[A-Za-z_]\w*")


class SpelledCall(NamedTuple):
    """A tool's call: its name, how it is written, and what its arguments are."""

    name: str
    spelling: CallSpelling
    schema: Mapping[str, Any]


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
        special: see ``LarkRules``.
        must_call: the answer is nothing but calls, behind its reasoning; else it is free text with calls in it.
        is_single: one call at most.
        reasoning: what the model may think first.

    Raises:
        InvalidRequestError: parameters that are no schema of an object, or cannot be written by this family; calls that
            stand in free text without a mark.
    """
    rules, form = LarkRules(special), calls[0].spelling
    mark = form.section_begin or form.trigger
    if not must_call and not mark:
        raise InvalidRequestError(
            "this model's calls have no mark in free text, so they are held to the tools only with tool_choice required:"
            " set that, or leave strict and allowed_tools out"
        )
    is_behind_mark = not must_call and not form.section_begin
    bodies = [_call(rules, call, mark if is_behind_mark else "") for call in calls]
    one = f"({' | '.join(bodies)})"
    several = one if is_single else f"{one} ({rules.literal(form.separator)} {one})*"
    if must_call:
        start = f"{rules.literal(form.section_begin)} {several} {rules.literal(form.section_end)}"
    else:
        section = f"{rules.until(mark)} {several} {rules.literal(form.section_end)}"
        start = f"({section})? TEXT" if is_single else f"({section})* TEXT"
    return rules.grammar(f"{rules.reasoning(reasoning)} {start}")


def _call(rules: LarkRules, call: SpelledCall, mark: str) -> str:
    """A call; ``mark`` is what of its beginning was read before."""
    form = call.spelling
    if call.schema.get("type", "object") != "object":
        raise InvalidRequestError(f"the parameters of {call.name} are no object, which the arguments of a call always are")
    begin = rules.literal(form.begin.removeprefix(mark))
    if form.arguments == "gemma":
        return rules.add("call", f"{begin} {rules.until(form.end)}")
    if form.arguments == "json":
        check_depth(call.schema)
        return rules.add("call", f"{begin} %json {embedded_schema(dict(call.schema))} {rules.literal(form.end)}")
    return rules.add("call", f"{begin} {_Fields(rules, call).written()} {rules.literal(form.end)}")


class _Fields:
    """The arguments of a call that is written field by field, in the schema's order; what is not required may be left out."""

    def __init__(self, rules: LarkRules, call: SpelledCall) -> None:
        self._rules = rules
        self._form = call.spelling
        schema = call.schema
        check_depth(schema)
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not (isinstance(properties, dict) and all(isinstance(part, dict | bool) for part in properties.values())):
            raise InvalidRequestError(f"the properties of {call.name} are no object of schemas")
        if not (isinstance(required, list) and all(isinstance(name, str) for name in required)):
            raise InvalidRequestError(f"the required properties of {call.name} are no list of names")
        if self._form.arguments == "python" and (odd := [key for key in properties if not _KEYWORD.fullmatch(key)]):
            raise InvalidRequestError(f"{call.name} has the parameter {odd[0]!r}, which this model cannot write")
        self._shared = shared_definitions(schema)
        self._rules_of_fields: dict[int, str] = {}
        self._fields = [(key, part if isinstance(part, dict) else {}, key in required) for key, part in properties.items()]

    def written(self) -> str:
        """All of them: whichever comes first has no separator before it."""
        if not self._fields:
            return ""
        ways = []
        for index, (key, part, is_required) in enumerate(self._fields):
            ways.append(f"{self._field(key, part, '')} {self._more(index + 1)}")
            if is_required:
                return f"({' | '.join(ways)})"
        return f"({' | '.join(ways)})?"

    def _more(self, start: int) -> str:
        """The fields from this one on, behind others. A separator is of one piece with what follows it."""
        fields = []
        for index in range(start, len(self._fields)):
            key, part, is_required = self._fields[index]
            if index not in self._rules_of_fields:
                field = self._field(key, part, self._form.argument_separator)
                self._rules_of_fields[index] = self._rules.add("field", field)
            fields.append(self._rules_of_fields[index] + ("" if is_required else "?"))
        return " ".join(fields)

    def _field(self, key: str, part: Mapping[str, Any], separator: str) -> str:
        rules = self._rules
        if self._form.arguments == "python":
            return f"{rules.literal(f'{separator}{key}=')} {self._python(part)}"
        before, _, after = self._form.argument.replace("{key}", key).partition("{value}")
        begin = rules.literal(separator + before)
        choices = part.get("enum", [part["const"]] if "const" in part else [])
        if choices and isinstance(choices, list) and all(isinstance(value, str) for value in choices):
            return f"{begin} ({' | '.join(map(rules.literal, choices))}) {rules.literal(after)}"
        if part.get("type") == "string":
            return f"{begin} {rules.until(after)}"
        return f"{begin} {self._json(part)} {rules.literal(after)}"

    def _json(self, part: Mapping[str, Any]) -> str:
        return f"%json {embedded_schema(self._shared | dict(part))}"

    def _python(self, part: Mapping[str, Any]) -> str:
        match part.get("type"):
            case "boolean":
                return '("True" | "False")'
            case "null":
                return '"None"'
        return self._json(part)
