"""Fields of a file are of the type that is expected, or the error says which and what came."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from yeoul.errors import ModelFileError
from yeoul.model_files.typed_fields import MAX_JSON_BYTES, TypedFields, read_json_fields

VALUES = {
    "a.size": 3,
    "a.zero": 0,
    "a.flag": True,
    "a.number": 0.5,
    "a.infinite": float("inf"),
    "a.text": "x",
    "a.list": [1, True],
    "a.none": None,
    "a.group": {"inner": 1},
}


def fields() -> TypedFields:
    return TypedFields("the file", VALUES, prefix="a.")


def test_values_of_the_right_type_are_given():
    assert fields().size("size") == 3
    assert fields().size("none", 7) == 7
    assert fields().token_id("zero") == 0
    assert fields().number("size") == 3.0
    assert fields().positive("missing", 2.0) == 2.0
    assert fields().boolean("flag", False) is True
    assert fields().boolean("none", True) is True
    assert fields().optional_text("text") == "x"
    assert fields().items("none", int) is None
    group = fields().group("group")
    assert group is not None
    assert group.size("inner") == 1


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda f: f.size("flag"), "expected a positive whole number in the field 'a.flag', found True"),
        (lambda f: f.size("zero"), "found 0"),
        (lambda f: f.size("number"), "found 0.5"),
        (lambda f: f.size("missing"), "in the field 'a.missing', it is missing"),
        (lambda f: f.token_id("text"), "expected a token id in the field 'a.text', found 'x'"),
        (lambda f: f.number("infinite"), "expected a finite number in the field 'a.infinite', found inf"),
        (lambda f: f.positive("zero"), "a number above 0"),
        (lambda f: f.boolean("size", False), "expected true or false"),
        (lambda f: f.optional_text("size"), "expected a string"),
        (lambda f: f.items("list", int), "expected a list of int in the field 'a.list', found [1, True]"),
        (lambda f: f.group("list"), "expected an object"),
    ],
)
def test_the_wrong_type_is_refused_with_what_came(ask: Callable[[TypedFields], object], message):
    with pytest.raises(ModelFileError) as caught:
        ask(fields())
    assert caught.value.message.startswith("the file: expected ")
    assert message in caught.value.message


def test_an_error_stays_short_whatever_came():
    with pytest.raises(ModelFileError) as caught:
        TypedFields("f", {"x": ["y" * 1000] * 1000}).size("x")
    assert len(caught.value.message) < 200


def test_a_json_file_that_is_not_there_is_none_and_a_huge_one_is_refused(tmp_path):
    assert read_json_fields(str(tmp_path / "missing.json")) is None
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(ModelFileError, match="is it what its name says"):
        read_json_fields(str(tmp_path / "huge.json"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ModelFileError, match="cannot read"):
        read_json_fields(str(tmp_path / "folder.json"))
