"""oneOf whose alternatives exclude each other is followed; any other is refused, and nothing wrong comes through."""

from __future__ import annotations

import itertools
import json
from typing import Any

import jsonschema_rs
import pytest

from tests.unit.grammars.grammar_of_bytes import END, allowed, byte_compiler
from yeoul.errors import InvalidRequestError
from yeoul.grammars.json_schema import json_schema_grammar
from yeoul.grammars.matcher import GrammarError
from yeoul.grammars.one_of import without_one_of

CAT = {
    "type": "object",
    "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}},
    "required": ["kind", "lives"],
}
DOG = {"type": "object", "properties": {"kind": {"enum": ["dog", "puppy"]}}, "required": ["kind"]}
TREE = {
    "type": "object",
    "properties": {"kind": {"const": "tree"}, "left": {"$ref": "#/$defs/any"}},
    "required": ["kind"],
    "additionalProperties": False,
}
DEFINITIONS = {
    "$defs": {"cat": CAT, "dog": DOG, "tree": TREE, "any": {"oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/tree"}]}}
}
REFERENCES = [{"$ref": f"#/$defs/{name}"} for name in ("cat", "dog", "tree")]
EXCLUSIVE: dict[str, Any] = {
    "a discriminator behind references": {"oneOf": REFERENCES, "discriminator": {"propertyName": "kind"}, **DEFINITIONS},
    "one that refers to itself": {"$ref": "#/$defs/any", **DEFINITIONS},
    "in a property": {"type": "object", "properties": {"pet": {"oneOf": REFERENCES}}, "required": ["pet"], **DEFINITIONS},
    "types": {"oneOf": [{"type": ["string", "null"]}, {"type": "number"}, {"type": "boolean"}]},
    "closed objects": {
        "oneOf": [
            {"type": "object", "properties": {name: {"type": "integer"}}, "required": [name], "additionalProperties": False}
            for name in ("a", "b")
        ]
    },
}
OVERLAPPING: dict[str, Any] = {
    "a number may be whole": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    "1 is 1.0": {"oneOf": [{"enum": [1, 2]}, {"enum": [1.0, 3]}]},
    "the discriminator may be left out": {"oneOf": [CAT, DOG | {"required": []}]},
    "what is no object fits both": {
        "oneOf": [{name: part for name, part in pet.items() if name != "type"} for pet in (CAT, DOG)]
    },
    "open objects": {"oneOf": [{"type": "object", "required": ["a"]}, {"type": "object", "required": ["b"]}]},
    "a reference to nowhere": {"oneOf": [{"$ref": "#/$defs/none"}, {"type": "null"}], "$defs": {}},
    "a reference that goes round": {
        "oneOf": [{"$ref": "#/$defs/a"}, {"type": "null"}],
        "$defs": {"a": {"$ref": "#/$defs/a"}},
    },
    "too many": {"oneOf": [{"const": number} for number in range(100)]},
}
VALUES: list[Any] = [
    None, True, 0, 1, 1.5, "x", [], {}, {"a": 1}, {"b": 1}, {"a": 1, "b": 1}, {"kind": "cat"}, {"kind": "cat", "lives": 9},
    {"kind": "dog"}, {"kind": "puppy", "lives": 1}, {"kind": "tree"}, {"kind": "tree", "left": {"kind": "tree"}},
    {"kind": "tree", "left": {"kind": "dog"}}, {"kind": "tree", "left": {"kind": "cat", "lives": 3}}, {"kind": "cow"},
    {"pet": {"kind": "dog"}}, {"pet": {"kind": "cow"}}, {"pet": None},
]  # fmt: skip


def comes_through(grammar: str, value: Any) -> bool:
    matcher = COMPILER.matcher(grammar)
    try:
        matcher.accept(json.dumps(value).encode())
        return END in allowed(matcher)
    except GrammarError:
        return False


COMPILER = byte_compiler()


@pytest.mark.parametrize("name", EXCLUSIVE)
def test_alternatives_that_exclude_each_other_are_followed(name):
    schema = EXCLUSIVE[name]
    assert "oneOf" not in json.dumps(without_one_of(schema))
    grammar = json_schema_grammar(schema)
    validator = jsonschema_rs.Draft202012Validator(schema)
    valid = [value for value in VALUES if validator.is_valid(value)]
    assert valid
    assert [value for value in VALUES if comes_through(grammar, value)] == valid


@pytest.mark.parametrize("name", OVERLAPPING)
def test_alternatives_that_may_overlap_stay_as_they_are(name):
    schema = OVERLAPPING[name]
    assert without_one_of(schema) == schema


def test_an_enum_that_looks_like_a_schema_is_left_alone():
    schema = {"enum": [{"oneOf": [{"type": "null"}, {"type": "string"}]}], "const": {"oneOf": [True, False]}}
    assert without_one_of(schema) == schema


def test_alternatives_that_may_overlap_are_refused():
    for one, other in itertools.combinations([CAT, {"type": "object"}, {}], 2):
        with pytest.raises(InvalidRequestError, match="oneOf"):
            COMPILER.matcher(json_schema_grammar({"oneOf": [one, other]}))
