"""The fields of an object, in their schema's order, with what may stand between them; knows no family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from yeoul.errors import InvalidRequestError
from yeoul.grammars.lark_rules import LarkRules


class Field(NamedTuple):
    """One of an object's properties; one that is not required may be left out."""

    key: str
    schema: Mapping[str, Any] | bool
    is_required: bool


def fields_of(schema: Mapping[str, Any]) -> list[Field]:
    """Those that are named, and those that are required only.

    Raises:
        InvalidRequestError: properties that are none, or a required one that no value fits.
    """
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not (isinstance(properties, dict) and all(isinstance(part, dict | bool) for part in properties.values())):
        raise InvalidRequestError("the properties are no object of schemas")
    if not (isinstance(required, list) and all(isinstance(name, str) for name in required)):
        raise InvalidRequestError("the required properties are no list of names")
    others = schema.get("additionalProperties", True)
    named = properties | {name: others for name in required if name not in properties}
    if impossible := [name for name in required if named[name] is False]:
        raise InvalidRequestError(f"{impossible[0][:60]!r} is required, and no value fits it")
    return [Field(key, part, key in required) for key, part in named.items() if part is not False]


def written_fields(rules: LarkRules, fields: Sequence[Field], write: Callable[[Field, bool], str]) -> str:
    """All of them: whichever comes first has no separator before it. ``write`` is told whether one stands behind others."""
    rules_of_fields: dict[int, str] = {}

    def others(start: int) -> str:
        """The fields from this one on, behind others. A separator is of one piece with what follows it."""
        names = []
        for index in range(start, len(fields)):
            if index not in rules_of_fields:
                rules_of_fields[index] = rules.add("field", write(fields[index], True))
            names.append(rules_of_fields[index] + ("" if fields[index].is_required else "?"))
        return " ".join(names)

    ways = []
    for index, field in enumerate(fields):
        ways.append(f"{write(field, False)} {others(index + 1)}")
        if field.is_required:
            return f"({' | '.join(ways)})"
    return f"({' | '.join(ways)})?" if ways else ""
