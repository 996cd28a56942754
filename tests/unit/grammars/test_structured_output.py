"""What requests ask for, as grammars: what fits, what does not, what is refused and where."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.grammars.grammar_of_bytes import END, allowed, byte_compiler
from yeoul.errors import InvalidRequestError
from yeoul.grammars.compiler import GrammarCompiler
from yeoul.grammars.json_schema import find_flaw, json_schema_grammar
from yeoul.grammars.lark_rules import Reasoning, after_reasoning
from yeoul.grammars.limits import MAX_GRAMMAR_BYTES
from yeoul.grammars.matcher import GrammarError
from yeoul.grammars.structured_output import Kind, StructuredOutput

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
CALL = {"begin": "<call=f>", "schema": {"type": "array", "items": {"type": "boolean"}}, "end": "</call>"}

FITS: list[tuple[Kind, Any, list[str], list[str]]] = [
    (
        "json_schema",
        PERSON,
        ['{"name": "Ann", "age": 31}', '{\n  "name": "Ä",\n  "age": 0\n}', '{"name":"","age":150}'],
        ['{"age": 31, "name": "Ann"}', '{"name": "Ann"}', '{"name": "Ann", "age": 151}', '{"name": "Annette", "age": 1}'],
    ),
    ("json_schema", json.dumps(PERSON), ['{"name": "Ann", "age": 31}'], ["{}"]),
    ("json_schema", True, ["1", "{}", '"a"'], ["a"]),
    ("json_object", None, ["{}", '{"a": [1, {"b": null}]}'], ["[]", "1", '{"a": }', "{" + "\n" * 40 + "}"]),
    ("regex", r"\d{3}-[a-c]+", ["123-abc"], ["12-abc", "123-abcd", "x123-abc"]),
    ("choice", ["yes", "no", "don't \"know\"\n", "여울"], ["yes", "don't \"know\"\n", "여울"], ["maybe", "yesno", ""]),
    ("grammar", 'start: "a"+ "b"', ["ab", "aaab"], ["b", "a"]),
    ("grammar", 'root ::= "a"+ [0-9]', ["a1", "aa9"], ["a", "ab"]),
    (
        "structural_tag",
        {"type": "structural_tag", "structures": [CALL], "triggers": ["<call="]},
        ["free <text>", "so <call=f>[true, false]</call> and <call=f>[]</call>."],
        ["<call=g>", "<call=f>[1]</call>", "<call=f>[true]"],
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return byte_compiler()


def fits(compiler: GrammarCompiler, grammar: str, text: str) -> bool:
    matcher = compiler.matcher(grammar)
    try:
        matcher.accept(text.encode())
        return END in allowed(matcher)
    except GrammarError:
        return False


@pytest.mark.parametrize(("kind", "value", "right", "wrong"), FITS)
def test_an_answer_is_what_was_asked_for_and_nothing_else(compiler, kind, value, right, wrong):
    grammar = StructuredOutput(kind, value, "response_format").grammar()
    assert [text for text in right if not fits(compiler, grammar, text)] == []
    assert [text for text in wrong if fits(compiler, grammar, text)] == []


@pytest.mark.parametrize(("kind", "value", "right", "wrong"), FITS)
def test_a_form_of_any_kind_holds_behind_thoughts_and_without_them(compiler, kind, value, right, wrong):
    form = StructuredOutput(kind, value, "response_format").grammar()
    grammar = after_reasoning(form, Reasoning("<think>", "</think>", is_open=False), {})
    for before in ("<think>hm</think>\n", ""):
        assert [text for text in right if not fits(compiler, grammar, before + text)] == []
        assert [text for text in wrong if fits(compiler, grammar, before + text)] == []


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("json_schema", 5, "has to be an object"),
        ("json_schema", "{", "no JSON"),
        ("json_schema", '{"not":' * 1500 + "{}" + "}" * 1500, "nested|no JSON"),
        ("json_schema", '{"enum":[' + "[]," * 100_000 + "[]]}", "at most"),
        ("json_schema", {"anyOf": [{"$ref": "#/a", "$id": "b"}]}, "#/anyOf/0"),
        ("regex", "", "not empty"),
        ("regex", 5, "expected a string"),
        ("choice", [], "one at least"),
        ("choice", ["a", 1], "list of strings"),
        ("choice", ["a", ""], "is empty"),
        ("grammar", "root ::= (", "neither Lark nor GBNF"),
        ("structural_tag", {"structures": [CALL], "triggers": ["<other="]}, "none of the triggers"),
        ("structural_tag", {"structures": [], "triggers": []}, "one structure"),
        ("structural_tag", {"structures": [{"begin": 1}], "triggers": []}, "structures and triggers"),
        ("structural_tag", [], "expected an object"),
        ("choice", ["x" * MAX_GRAMMAR_BYTES], "at most"),
    ],
)
def test_what_is_no_description_of_an_answer_is_refused_by_the_name_of_its_field(kind, value, reason):
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        StructuredOutput(kind, value, "response_format.json_schema").grammar()
    assert caught.value.param == "response_format.json_schema"
    assert "response_format.json_schema" in caught.value.message


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"uniqueItems": True}, "#"),
        ({"properties": {"a": {"type": "array", "uniqueItems": True}, "b": {}}}, "#/properties/a"),
        ({"anyOf": [{}, {"items": {"type": "strange"}}]}, "#/anyOf/1/items"),
        ({"$defs": {"x": {"not": {}}}, "properties": {"a": {"items": {"$ref": "#/$defs/x"}}}}, "#/$defs/x"),
        ({"properties": {"a": {"minLength": 1}, "ab": {"uniqueItems": True}}}, "#/properties/ab"),
    ],
)
def test_a_flaw_in_a_schema_is_found_where_it_is(compiler, schema, place):
    with pytest.raises(InvalidRequestError):
        compiler.matcher(json_schema_grammar(schema))
    assert find_flaw(schema, lambda grammar: compiler.try_out(grammar).exception() is not None) == place


def test_a_schema_cannot_loosen_its_own_enforcement(compiler):
    schema = {"type": "array", "uniqueItems": True, "x-guidance": {"lenient": True}}
    with pytest.raises(InvalidRequestError, match="uniqueItems"):
        compiler.matcher(json_schema_grammar(schema))
