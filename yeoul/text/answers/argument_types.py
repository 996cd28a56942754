"""Makes JSON of arguments that a format writes as bare text, by the types in the tool's schema; knows no format of calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from yeoul.text.answers.json_text import NUMBER, WORDS, quoted
from yeoul.text.answers.python_values import json_of_python


def types_of(schema: Mapping[str, Any], key: str) -> frozenset[str]:
    """The JSON types that a tool's parameter may have; none where the schema does not say."""
    properties = schema.get("properties")
    own = properties.get(key) if isinstance(properties, Mapping) else None
    if not isinstance(own, Mapping):
        own = schema.get("additionalProperties")
    return frozenset(_types(own, schema)) if isinstance(own, Mapping) else frozenset()


def json_of_text(text: str, types: frozenset[str]) -> str:
    """The JSON text of a bare value.

    It is read as JSON, or else as Python writes it, if that gives a value of one of the types; where none is known, as JSON
    alone, if that gives anything but a string. Otherwise it is a string.
    """
    if types == {"string"}:
        return quoted(text)
    stripped = text.strip()
    for candidate in (stripped, WORDS.get(stripped.capitalize()), json_of_python(stripped) if types else None):
        found = _type_of_json(candidate)
        if candidate is not None and found is not None and _is_allowed(found, types):
            return candidate
    return quoted(text)


def _is_allowed(found: str, types: frozenset[str]) -> bool:
    if not types:
        return found != "string"
    if found == "number":
        return not types.isdisjoint(("integer", "number"))
    if found == "null" and "string" not in types:
        return True
    return found in types


def _type_of_json(text: str | None) -> str | None:
    """The type of a JSON text; None where it is none."""
    if not text:
        return None
    if text in ("true", "false", "null"):
        return "null" if text == "null" else "boolean"
    if NUMBER.fullmatch(text) is not None:
        return "number"
    if text[0] not in '{["':
        return None
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return _NAMES[type(value)]


def _types(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[str]:
    """The types of a schema and of all that it is put together from, each looked at once."""
    waiting: list[Any] = [schema]
    seen: set[int] = set()
    while waiting:
        own = waiting.pop()
        if not isinstance(own, Mapping) or id(own) in seen:
            continue
        seen.add(id(own))
        if isinstance(reference := own.get("$ref"), str):
            waiting.append(_referred(root, reference))
        if (types := own.get("type")) is not None:
            yield from (name for name in (_list(types) or [types]) if isinstance(name, str))
            continue
        values = [own["const"]] if "const" in own else _list(own.get("enum"))
        yield from (_NAMES.get(type(value), "number") for value in values)
        for word in ("anyOf", "oneOf", "allOf"):
            waiting += _list(own.get(word))


def _list(value: Any) -> list[Any]:
    """A list that a schema has somewhere; an empty one where it has something else."""
    return value if isinstance(value, list) else []


def _referred(root: Mapping[str, Any], reference: str) -> Any:
    """What a reference within the schema points to; None where it points to nothing."""
    place: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        place = place.get(step) if isinstance(place, Mapping) else None
    return place if reference.startswith("#/") else None


_NAMES: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}


def _refuse(constant: str) -> None:
    raise ValueError(constant)
