"""JSON, Python and bare values as they come: what is passed on, what is put right, what is damage."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.text.answers.argument_types import json_of_text, types_of
from yeoul.text.answers.json_text import MAX_DEPTH, pass_value, read_string
from yeoul.text.answers.python_values import json_of_python, pass_python
from yeoul.text.answers.tape import CutError, DamagedError, Sink, Steps, Tape

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def passed(read: Callable[[Tape, Sink], Steps[Any]], text: str, by_character: bool = True) -> tuple[str, str]:
    """What is passed on, and what stays unread."""
    tape, pieces = Tape(), list[str]()
    steps = read(tape, pieces.append)
    for piece in [*text] if by_character else [text]:
        tape.feed(piece)
        if next(steps, "ended") == "ended":
            break
    else:
        tape.is_ended = True
        next(steps, None)
    return "".join(pieces), tape.take(tape.num_unread)


@given(json_values, st.booleans(), st.sampled_from([None, 1]))
def test_json_is_passed_on_with_its_meaning(value, is_ascii, indent):
    text = json.dumps(value, ensure_ascii=is_ascii, indent=indent) + " "
    found, _ = passed(pass_value, text, by_character=False)
    assert json.loads(found) == value
    assert passed(pass_value, text)[0] == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"a\tb"', '"a\\tb"'),
        ('"\\d+\\\'"', '"\\\\d+\'"'),
        ('"\\uzzzz"', '"\\\\uzzzz"'),
        ("[True,None , False]", "[true, null, false]"),
        ('{ "a"\n:\n1 , "b":[ ] }', '{"a": 1, "b": []}'),
        ('"\x00\x1f"', '"\\u0000\\u001f"'),
        ("-0.5e+3,", "-0.5e+3"),
    ],
)
def test_what_models_get_wrong_is_put_right(text, expected):
    found, _ = passed(pass_value, text + " ")
    assert found == expected
    json.loads(found)


@pytest.mark.parametrize(
    "text",
    ["[1 2]", "[1,]", "{1: 2}", "{'a': 1}", "[01]", "[nul]", "[1}", '{"a" 1}', "[.5]", "[NaN]", "[+1]", "]", ",", "[" * 200],
)
def test_what_is_no_json_is_damage_at_its_place(text):
    with pytest.raises(DamagedError) as caught:
        passed(pass_value, text + " ")
    assert not isinstance(caught.value, CutError)


@pytest.mark.parametrize("text", ["", "[", '{"a', '{"a":', "[1", "tru", '"\\', '"\\u00', "[1, "])
def test_what_ends_too_early_is_cut(text):
    with pytest.raises(CutError):
        passed(pass_value, text)


def test_json_as_deep_as_it_may_be_is_passed_on():
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert passed(pass_value, text)[0] == text


def test_a_name_with_half_a_character_is_damage():
    with pytest.raises(DamagedError):
        passed(lambda tape, sink: read_string(tape), r'"a\ud83d" ')


def test_text_that_is_read_back_is_what_it_was():
    tape = Tape()
    tape.feed("[nul")
    pieces: list[str] = []
    steps = pass_value(tape, pieces.append)
    next(steps)
    tape.feed("x] rest")
    with pytest.raises(DamagedError):
        next(steps)
    assert ("".join(pieces), tape.take(tape.num_unread)) == ("[", "nulx] rest")


python_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@given(python_values)
def test_python_is_passed_on_as_json_with_its_meaning(value):
    found = json_of_python(repr(value))
    assert found is not None
    # A tuple of one in brackets is a tuple here, as no model writes brackets around a number for nothing.
    assert json.loads(found) == as_json(value)
    assert passed(pass_python, repr(value) + " ")[0] == found


@pytest.mark.parametrize(
    "text",
    [
        r"'\x41\u00e9\N{DASH}\101\0\'\"\d'",
        '"""a"b\'\n"""',
        "''",
        "'''a''b'''",
        r"'a\
b'",
    ],
)
def test_strings_are_read_as_python_reads_them(text):
    expected = ast.literal_eval(text.replace(r"\N{DASH}", r"\\N{DASH}").replace(r"\d", r"\\d"))
    found = json_of_python(text)
    assert found is not None
    assert json.loads(found) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("1_000", "1000"), ("0x1f", "31"), (".5", "0.5"), ("+3", "3"), ("true", "true"), ("null", "null")]
)
def test_numbers_and_words_are_python_s(text, expected):
    assert json_of_python(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "[1",
        "{1, 2}",
        "f()",
        "'a",
        "1 + 1",
        "inf",
        "nan",
        "[" * 70 + "]" * 70,
        "{'a' 1}",
        "b'a'",
        "9" * 5000 + "_0",
    ],
)
def test_what_is_no_literal_is_none(text):
    assert json_of_python(text) is None


def test_two_escapes_that_make_one_character_do_so_in_json():
    found = json_of_python(r"'\ud83d\ude00'")
    assert found is not None
    assert json.loads(found) == "\U0001f600"


SCHEMA = {
    "properties": {
        "one": {"type": "string"},
        "two": {"type": ["integer", "null"]},
        "choice": {"enum": ["a", "b"]},
        "constant": {"const": 1},
        "any": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/inner"}]},
        "reference": {"$ref": "#/$defs/inner"},
        "endless": {"$ref": "#/properties/endless"},
        "outside": {"$ref": "https://example.org/schema"},
        "nothing": True,
    },
    "additionalProperties": {"type": "boolean"},
    "$defs": {"inner": {"type": "object"}},
}


@pytest.mark.parametrize(
    ("key", "types"),
    [
        ("one", {"string"}),
        ("two", {"integer", "null"}),
        ("choice", {"string"}),
        ("constant", {"integer"}),
        ("any", {"string", "object"}),
        ("reference", {"object"}),
        ("endless", set()),
        ("outside", set()),
        ("other", {"boolean"}),
        ("nothing", {"boolean"}),
    ],
)
def test_the_schema_says_of_what_types_an_argument_may_be(key, types):
    assert types_of(SCHEMA, key) == types


@pytest.mark.parametrize(
    "schema",
    [{}, {"properties": []}, {"properties": {"a": {"type": 3, "anyOf": "x", "enum": [1]}}}, {"properties": {"a": {}}}],
)
def test_a_schema_that_says_nothing_says_nothing(schema):
    assert types_of(schema, "a") <= {"integer"}


def test_a_schema_that_refers_to_itself_again_and_again_is_looked_at_once():
    again = {"$ref": "#/$defs/again"}
    deep: dict[str, Any] = {"type": "integer"}
    for _ in range(5000):
        deep = {"anyOf": [deep, again]}
    schema = {"properties": {"a": again, "b": deep}, "$defs": {"again": {"anyOf": [again] * 20 + [{"allOf": [again] * 20}]}}}
    assert types_of(schema, "a") == set()
    assert types_of(schema, "b") == {"integer"}


@pytest.mark.parametrize(
    ("text", "types", "expected"),
    [
        ("5", {"string"}, '"5"'),
        ("5", {"integer"}, "5"),
        (" 5\n", {"integer"}, "5"),
        ("5.0", {"integer"}, "5.0"),
        ("5", {"number"}, "5"),
        ("five", {"integer"}, '"five"'),
        ("True", {"boolean"}, "true"),
        ("FALSE", {"boolean"}, "false"),
        ("None", {"integer"}, "null"),
        ("null", {"string", "null"}, "null"),
        ("null", {"string"}, '"null"'),
        ("null", {"string", "integer"}, '"null"'),
        ("[1, 2]", {"array"}, "[1, 2]"),
        ("{'a': (1,)}", {"object"}, '{"a": [1]}'),
        ('{"a": 1', {"object"}, '"{\\"a\\": 1"'),
        ('{"a": 1}', {"string", "object"}, '{"a": 1}'),
        ("[NaN]", {"array"}, '"[NaN]"'),
        ("", {"integer"}, '""'),
        ("5", set(), "5"),
        ("x", set(), '"x"'),
        ('"x"', set(), '"\\"x\\""'),
        ("[1]", set(), "[1]"),
        ("true", set(), "true"),
        ("1_0", set(), '"1_0"'),
        ("{'a': 1}", set(), "\"{'a': 1}\""),
        ('"x"', {"object"}, '"\\"x\\""'),
        ("[" * 9000, {"array"}, f'"{"[" * 9000}"'),
    ],
)
def test_a_bare_value_becomes_json_of_its_type(text, types, expected):
    assert json_of_text(text, frozenset(types)) == expected
