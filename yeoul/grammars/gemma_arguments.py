"""The arguments of a call as Gemma writes them, held to a schema: names bare, strings between tokens of their own.

What a schema asks beyond what is held here is refused, but for what only describes, and for a ``format``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from yeoul.errors import InvalidRequestError
from yeoul.grammars.fields import NOT_HELD, OBJECTS, OF_ANY_TYPE, Field, arguments_of, fields_of, refuse, written_fields
from yeoul.grammars.json_schema import embedded_schema
from yeoul.grammars.lark_rules import LarkRules
from yeoul.grammars.one_of import target_of, without_one_of
from yeoul.grammars.written_text import limits_of_text

_BARE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*")
_MAX_NUM_ITEMS = 1_000
_NUMBERS = frozenset({"exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"})
_TYPES = ("array", "boolean", "null", "number", "object", "string")
_HELD = {
    "array": {"items", "maxItems", "minItems"},
    "integer": _NUMBERS,
    "number": _NUMBERS,
    "object": OBJECTS,
    "string": {"maxLength", "minLength", "pattern"},
}
_ASSERTING = OF_ANY_TYPE.union({"type"}, *_HELD.values(), *NOT_HELD.values())


class GemmaArguments:
    """The pairs of one call. ``quote`` is the token on both sides of a string; ``schema`` is of all arguments."""

    def __init__(self, rules: LarkRules, quote: str, schema: Mapping[str, Any]) -> None:
        self._rules = rules
        self._quote = quote
        self._root = without_one_of(dict(schema))
        self._named: dict[str, str] = {}

    def written(self) -> str:
        """All of them, without what stands on both sides."""
        return self._pairs(arguments_of(self._root))

    def _value(self, part: Any) -> str:
        if part is True or part == {}:
            return self._rule("any", lambda: " | ".join(self._of_type(kind, {}) for kind in _TYPES))
        if not isinstance(part, dict):
            raise InvalidRequestError(f"no value fits {json.dumps(part)[:40]}, which stands where a schema should")
        match part:
            case {"$ref": reference}:
                refuse(part, _ASSERTING - {"$ref"})
                return self._referred(reference)
            case {"anyOf": [_, *_] as parts}:
                refuse(part, _ASSERTING - {"anyOf"})
                return "(" + " | ".join(map(self._value, parts)) + ")"
            case {"allOf": [one]}:
                refuse(part, _ASSERTING - {"allOf"})
                return self._value(one)
            case {"const": value}:
                refuse(part, _ASSERTING - {"const", "type"})
                return self._listed([value], part)
            case {"enum": [_, *_] as values}:
                refuse(part, _ASSERTING - {"enum", "type"})
                return self._listed(values, part)
        types = _types_of(part)
        refuse(part, OF_ANY_TYPE.union(*(NOT_HELD.get(kind, set()) for kind in types)))
        return "(" + " | ".join(self._of_type(kind, part) for kind in types) + ")"

    def _of_type(self, kind: str, part: Mapping[str, Any]) -> str:
        match kind:
            case "array":
                return f'"[" {self._items(part)} "]"'
            case "boolean":
                return '("true" | "false")'
            case "null":
                return '"null"'
            case "object":
                return f'"{{" {self._pairs(part)} "}}"'
            case "string":
                return f"{self._rules.literal(self._quote)} {self._rules.until(self._quote, limits_of_text(part))}"
        return f"%json {embedded_schema({'type': kind} | {word: part[word] for word in _NUMBERS & part.keys()})}"

    def _items(self, part: Mapping[str, Any]) -> str:
        fewest, most = part.get("minItems", 0), part.get("maxItems")
        for number in (fewest, 0 if most is None else most):
            if type(number) is not int or not 0 <= number <= _MAX_NUM_ITEMS:
                raise InvalidRequestError(f"{str(number)[:20]} items: expected a whole number from 0 to {_MAX_NUM_ITEMS}")
        if most is not None and most < max(fewest, 1):
            if most < fewest:
                raise InvalidRequestError(f"no list has {fewest} items at least and {most} at most")
            return ""
        item = self._rules.add("item", self._value(part.get("items", True)))
        more = f'("," {item}){{{max(fewest, 1) - 1},{"" if most is None else most - 1}}}'
        return f"({item} {more})" + ("" if fewest else "?")

    def _pairs(self, part: Mapping[str, Any]) -> str:
        others = part.get("additionalProperties", True)
        if (fields := fields_of(part)) or others is False:
            return written_fields(self._rules, fields, self._pair)
        name = f"(/{_BARE_NAME.pattern}/ | {self._of_type('string', {})})"
        pair = self._rules.add("pair", f'{name} ":" {self._value(others)}')
        return f'({pair} ("," {pair})*)?'

    def _pair(self, field: Field, is_behind_others: bool) -> str:
        name = field.key if _BARE_NAME.fullmatch(field.key) else self._string(field.key)
        value = self._rule(f"value {id(field.schema)}", lambda: self._value(field.schema))  # written once, read twice
        return f"{self._rules.literal((',' if is_behind_others else '') + name + ':')} {value}"

    def _listed(self, values: list[Any], part: Mapping[str, Any]) -> str:
        fitting = [value for value in values if any(_has_type(value, kind) for kind in _types_of(part))]
        if not fitting:
            raise InvalidRequestError(f"none of {json.dumps(values)[:60]} has the type {json.dumps(part['type'])[:40]}")
        return "(" + " | ".join(self._rules.literal(self._text(value)) for value in fitting) + ")"

    def _text(self, value: Any) -> str:
        if isinstance(value, str):
            return self._string(value)
        if isinstance(value, list):
            return f"[{','.join(map(self._text, value))}]"
        if isinstance(value, dict):
            return f"{{{','.join(f'{self._string(key)}:{self._text(inner)}' for key, inner in value.items())}}}"
        return json.dumps(value)

    def _string(self, text: str) -> str:
        if self._quote in text:
            raise InvalidRequestError(f"{text[:40]!r} has the mark that ends a string of this model's")
        return f"{self._quote}{text}{self._quote}"

    def _referred(self, reference: Any) -> str:
        target = target_of(self._root, reference) if isinstance(reference, str) else None
        if target is None:
            raise InvalidRequestError(f"the reference {str(reference)[:60]!r} leads to nothing in these parameters")
        return self._rule(f"reference {reference}", lambda: self._value(target))

    def _rule(self, key: str, body: Callable[[], str]) -> str:
        """The rule of this key: its body may name itself."""
        if key not in self._named:
            self._named[key] = name = self._rules.reserve("value")
            self._rules.define(name, body())
        return self._named[key]


def _types_of(part: Mapping[str, Any]) -> Sequence[str]:
    types = part.get("type", _TYPES)
    types = [types] if isinstance(types, str) else types
    if not (isinstance(types, list | tuple) and types and all(kind in ("integer", *_TYPES) for kind in types)):
        raise InvalidRequestError(f"{json.dumps(part['type'])[:40]} is no type")
    return types


def _has_type(value: Any, kind: str) -> bool:
    match kind:
        case "integer":
            return type(value) is int or (isinstance(value, float) and value.is_integer())
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, {"array": list, "boolean": bool, "null": type(None), "object": dict, "string": str}[kind])
