"""oneOf as anyOf, where nothing can fit two of the alternatives: llguidance follows that, and sees through no reference.

What unions with a discriminator look like in the schemas of pydantic and OpenAPI. Knows no grammar.
"""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

_MAX_NUM_PAIRS = 2048  # of a schema
_MAX_DEPTH = 4  # of properties in properties that may tell two alternatives apart
_MAX_NUM_REFERENCES = 8  # from one to the next
_VALUES = frozenset({"const", "default", "enum", "examples"})
_TYPES = frozenset({"array", "boolean", "integer", "null", "fraction", "object", "string"})


def without_one_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema, with ``anyOf`` for each ``oneOf`` of which at most one alternative can ever fit."""
    settled: dict[str, Any] = _Alternatives(schema).settled(schema)
    return settled


class _Alternatives:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._num_pairs = 0

    def settled(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.settled(value) for value in node]
        if not isinstance(node, dict):
            return node
        found = {key: value if key in _VALUES else self.settled(value) for key, value in node.items()}
        alternatives = node.get("oneOf")
        if isinstance(alternatives, list) and "anyOf" not in node and self._exclude_each_other(alternatives):
            found["anyOf"] = found.pop("oneOf")
        return found

    def _exclude_each_other(self, alternatives: list[Any]) -> bool:
        self._num_pairs += len(alternatives) ** 2 // 2
        if self._num_pairs > _MAX_NUM_PAIRS:
            return False
        return all(self._are_disjoint(one, other, _MAX_DEPTH) for one, other in combinations(alternatives, 2))

    def _are_disjoint(self, one: Any, other: Any, depth: int) -> bool:
        """Whether no value fits both; False where that is not seen."""
        one, other = self._resolved(one), self._resolved(other)
        if not isinstance(one, dict) or not isinstance(other, dict) or depth == 0:
            return one is False or other is False
        if _types_of(one).isdisjoint(_types_of(other)):
            return True
        values, other_values = _values_of(one), _values_of(other)
        if values is not None and other_values is not None and values.isdisjoint(other_values):
            return True
        if one.get("type") != "object" or other.get("type") != "object":
            return False
        shared = _required(one) & _required(other)
        if any(self._are_disjoint(_property(one, name), _property(other, name), depth - 1) for name in shared):
            return True
        return _lacks_required(one, other) or _lacks_required(other, one)

    def _resolved(self, part: Any) -> Any:
        """Where its references within the schema lead to; what stands beside them only narrows that."""
        for _ in range(_MAX_NUM_REFERENCES):
            reference = part.get("$ref") if isinstance(part, dict) else None
            if not isinstance(reference, str):
                return part
            part = target_of(self._root, reference)
        return None


def target_of(root: dict[str, Any], reference: str) -> Any:
    """What a reference within a schema leads to; None where it leads to nothing, or out of the schema."""
    if reference == "#" and "$id" not in root:
        return root
    beginning, _, path = reference.partition("#/")
    if beginning or not path or "%" in path or "$id" in root:
        return None
    node: Any = root
    for step in path.split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or name not in node or (node is not root and "$id" in node):
            return None
        node = node[name]
    return node


def _types_of(part: dict[str, Any]) -> frozenset[str]:
    """The types that a value of it may have; ``integer`` and ``fraction`` are all numbers."""
    types = part.get("type")
    named = [types] if isinstance(types, str) else types
    if not isinstance(named, list):
        return _TYPES
    return frozenset(kind for name in named for kind in (("integer", "fraction") if name == "number" else (str(name),)))


def _values_of(part: dict[str, Any]) -> set[str] | None:
    """The only values that fit, each in one spelling; None where they are not listed."""
    if "const" in part:
        return {_spelled(part["const"])}
    listed = part.get("enum")
    return {_spelled(value) for value in listed} if isinstance(listed, list) else None


def _spelled(value: Any) -> str:
    """1 and 1.0 are equal in JSON, True and 1 are not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, dict | list):
        return "compound"  # not told apart
    return json.dumps(value)


def _required(part: dict[str, Any]) -> set[str]:
    names = part.get("required")
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def _property(part: dict[str, Any], name: str) -> Any:
    properties = part.get("properties")
    return properties.get(name, {}) if isinstance(properties, dict) else {}


def _lacks_required(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether ``other`` requires what ``one`` does not let in."""
    properties = one.get("properties", {})
    if one.get("additionalProperties") is not False or "patternProperties" in one or not isinstance(properties, dict):
        return False
    return bool(_required(other) - properties.keys())
