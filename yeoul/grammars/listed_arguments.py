"""The arguments of a call that is written one by one, held to their schemas: between tags of their own, or as Python's.

Knows no family; ``CallSpelling`` says how one writes a tag.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from yeoul.errors import InvalidRequestError
from yeoul.grammars.fields import Field, arguments_of, fields_of, written_fields
from yeoul.grammars.json_schema import embedded_schema, shared_definitions
from yeoul.grammars.lark_rules import LarkRules
from yeoul.grammars.written_text import limits_of_text
from yeoul.text.answers.call_format import CallSpelling

_KEYWORD = re.compile(r"[A-Za-z_]\w*")


class TaggedArguments:
    """Each between tags: a string as it is, anything else as JSON."""

    def __init__(self, rules: LarkRules, form: CallSpelling, schema: dict[str, Any]) -> None:
        self._rules = rules
        self._form = form
        self._schema = schema

    def written(self) -> str:
        """All of them."""
        return written_fields(self._rules, fields_of(arguments_of(self._schema)), self._field)

    def _field(self, field: Field, is_behind_others: bool) -> str:
        rules, form, part = self._rules, self._form, field.schema if isinstance(field.schema, Mapping) else {}
        before, _, after = form.argument.replace("{key}", field.key).partition("{value}")
        begin = rules.literal((form.argument_separator if is_behind_others else "") + before)
        choices = part.get("enum", [part["const"]] if "const" in part else [])
        if choices and isinstance(choices, list) and all(isinstance(value, str) for value in choices):
            return f"{begin} ({' | '.join(map(rules.literal, choices))}) {rules.literal(after)}"
        if part.get("type") == "string":
            return f"{begin} {rules.until(after, limits_of_text(part))}"
        return f"{begin} {_json(part, self._schema)} {rules.literal(after)}"


class PythonArguments:
    """Keyword arguments of a function of Python's."""

    def __init__(self, rules: LarkRules, separator: str, schema: dict[str, Any]) -> None:
        self._rules = rules
        self._separator = separator
        self._schema = schema

    def written(self) -> str:
        """All of them."""
        return written_fields(self._rules, fields_of(arguments_of(self._schema)), self._field)

    def _field(self, field: Field, is_behind_others: bool) -> str:
        if _KEYWORD.fullmatch(field.key) is None:
            raise InvalidRequestError(f"there is the parameter {field.key[:60]!r}, which this model cannot write")
        name = self._rules.literal(f"{self._separator if is_behind_others else ''}{field.key}=")
        part = field.schema if isinstance(field.schema, Mapping) else {}
        match part.get("type"):
            case "boolean":
                return f'{name} ("True" | "False")'
            case "null":
                return f'{name} "None"'
        return f"{name} {_json(part, self._schema)}"


def _json(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    shared = shared_definitions(schema) if '"$ref"' in json.dumps(part) else {}
    return f"%json {embedded_schema(shared | dict(part))}"
