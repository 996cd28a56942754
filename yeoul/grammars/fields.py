"""The fields of an object, in their schema's order, with what may stand between them; knows no family.

What a schema asks of an object beside its fields is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from yeoul.errors import InvalidRequestError
from yeoul.grammars.lark_rules import LarkRules
from yeoul.grammars.one_of import target_of

OBJECTS = frozenset({"additionalProperties", "properties", "required"})
NOT_HELD = {
    "array": {"additionalItems", "contains", "prefixItems", "unevaluatedItems", "uniqueItems"},
    "object": {
        "dependencies", "dependentRequired", "dependentSchemas", "maxProperties", "minProperties", "patternProperties",
        "propertyNames", "unevaluatedProperties",
    },
}  # fmt: skip
OF_ANY_TYPE = {"$dynamicRef", "$recursiveRef", "$ref", "allOf", "anyOf", "const", "enum", "if", "not", "oneOf"}


class Field(NamedTuple):
    """One of an object's properties; one that is not required may be left out."""

    key: str
    schema: Mapping[str, Any] | bool
    is_required: bool


def arguments_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of the object that a call's arguments are.

    Raises:
        InvalidRequestError: it asks of the whole what calls that are written field by field cannot be held to.
    """
    part: Any = schema
    if "$ref" in schema:
        refuse(schema, OF_ANY_TYPE.union(*NOT_HELD.values(), OBJECTS) - {"$ref"})
        part = target_of(schema, schema["$ref"]) if isinstance(schema["$ref"], str) else None
    if not isinstance(part, dict) or part.get("type", "object") != "object":
        raise InvalidRequestError("the parameters are no object, which the arguments of a call always are")
    refuse(part, OF_ANY_TYPE | NOT_HELD["object"])
    return part


def refuse(part: Mapping[str, Any], words: Set[str]) -> None:
    """Raises InvalidRequestError for a part of a schema that has one of these keywords."""
    if found := sorted(words & part.keys()):
        raise InvalidRequestError(f"{found[0]!r} cannot be held in a call of this model's where it stands; leave it out")


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
    """All of them: whichever comes first has no separator before it. ``write`` is told whether one stands behind others.

    A separator is of one piece with what follows it.
    """
    ways: list[str] = []
    others = ""  # the fields behind the one that is looked at, behind others
    for field in reversed(fields):
        if field.is_required:  # nothing behind it can be the first
            ways.clear()
        ways.append(f"{write(field, False)} {others}")
        written = write(field, True)
        others = rules.add("fields", f"{written} {others}" if field.is_required else f"({written})? {others}")
    if not ways:
        return ""
    return f"({' | '.join(reversed(ways))})" + ("" if any(field.is_required for field in fields) else "?")
