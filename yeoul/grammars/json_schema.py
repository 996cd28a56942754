"""From a JSON schema to a grammar that allows nothing else; knows no request.

llguidance reads schemas, and refuses keywords that it cannot enforce. It allows a little less than a schema does: the
names of an object in the schema's order, a format as its assertion, whole numbers without a fraction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from yeoul.errors import InvalidRequestError
from yeoul.grammars.one_of import without_one_of

ANY_OBJECT: dict[str, Any] = {"type": "object"}

# Between two tokens of JSON: a space, or a new line and its indentation: some models like nothing better than line ends.
WHITESPACE = r" |\r?\n[ \t]{0,31}"
_ONE = ("additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
_SEVERAL = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_NAMED = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_MAX_NUM_TRIED = 32
_MAX_PATH_CHARACTERS = 200
_MAX_DEPTH = 64


def json_schema_grammar(schema: object) -> str:
    """The grammar of the documents that fit ``schema``, an object or a boolean.

    Raises:
        InvalidRequestError: no schema, or one that reads differently by its draft. What else is wrong with it shows when the
            grammar is compiled.
    """
    return f'{{"grammars": [{{"json_schema": {embedded_schema(schema)}}}]}}'


def embedded_schema(schema: object) -> str:
    """The same as it stands in a grammar, behind ``%json``."""
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise InvalidRequestError(f"a JSON schema has to be an object, but {json.dumps(schema)[:40]} came")
    check_depth(schema)
    for path, part in _parts(schema, "#"):
        if (
            path != "#" and "$ref" in part and "$id" in part
        ):  # before draft 2019-09 the $id counts for nothing, since then it does
            raise InvalidRequestError(f"{path} of the schema has a $id beside a $ref, which drafts read differently")
    # x-guidance may also loosen what is enforced, so the request's own does not count.
    return json.dumps(without_one_of(schema) | {"x-guidance": {"whitespace_pattern": WHITESPACE}}, ensure_ascii=False)


def find_flaw(schema: dict[str, Any], is_flawed: Callable[[str], bool]) -> str:
    """Where in ``schema`` the least part lies that cannot be compiled: ``#/properties/name``."""
    place = "#"
    shared = shared_definitions(schema)
    for tried, (path, part) in enumerate(_parts(schema, "#")):
        if tried >= _MAX_NUM_TRIED:
            break
        if path.startswith(f"{place}/") and is_flawed(json_schema_grammar(shared | part)):
            place = path
    return place if len(place) <= _MAX_PATH_CHARACTERS else f"{place[:_MAX_PATH_CHARACTERS]}..."


def shared_definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What a part of a schema may refer to."""
    return {name: schema[name] for name in ("$defs", "definitions") if name in schema}


def check_depth(schema: object) -> None:
    """Raises InvalidRequestError for what is nested deeper than any body may be."""
    level = [schema]
    for _ in range(_MAX_DEPTH):
        level = [
            value
            for node in level
            if isinstance(node, dict | list)
            for value in (node.values() if isinstance(node, dict) else node)
        ]
    if level:
        raise InvalidRequestError(f"the schema is nested more than {_MAX_DEPTH} deep; flatten it")


def _parts(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schema itself, then the schemas in it, each before those in it."""
    yield path, schema
    for name, part in _children(schema):
        yield from _parts(part, f"{path}/{name}")


def _children(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, value in schema.items():
        found: list[tuple[str, Any]] = []
        if key in _ONE:
            found.append((key, value))
        if key in _SEVERAL and isinstance(value, list):
            found += [(f"{key}/{index}", part) for index, part in enumerate(value)]
        if key in _NAMED and isinstance(value, dict):
            found += [(f"{key}/{name}", part) for name, part in value.items()]
        yield from ((name, part) for name, part in found if isinstance(part, dict))
