"""Structural tags as a tree of formats: what each lets through, alone and inside of others, and what cannot be held."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.grammars.grammar_of_bytes import END, allowed, byte_compiler
from yeoul.errors import InvalidRequestError
from yeoul.grammars.compiler import GrammarCompiler
from yeoul.grammars.matcher import GrammarError
from yeoul.grammars.structured_output import StructuredOutput

ANY: dict[str, Any] = {"type": "any_text"}
BOOLEANS: dict[str, Any] = {"type": "json_schema", "json_schema": {"type": "array", "items": {"type": "boolean"}}}


def const(value: str) -> dict[str, Any]:
    return {"type": "const_string", "value": value}


def tag(begin: str, content: dict[str, Any], end: str | list[str]) -> dict[str, Any]:
    return {"type": "tag", "begin": begin, "content": content, "end": end}


def of(kind: str, *elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "elements": list(elements)}


def triggered(*tags: dict[str, Any], **fields: bool) -> dict[str, Any]:
    return {"type": "triggered_tags", "triggers": ["<f"], "tags": list(tags), **fields}


def separated(*tags: dict[str, Any], **fields: bool) -> dict[str, Any]:
    return {"type": "tags_with_separator", "separator": ", ", "tags": list(tags), **fields}


F, G = tag("<f>", BOOLEANS, "</f>"), tag("<fg>", {"type": "regex", "pattern": "[ab/]+"}, "</fg>")

FORMATS: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "const_string": (const('a "b"\n'), ['a "b"\n'], ["", "a"]),
    "json_schema": (BOOLEANS, ["[]", "[true, false]"], ["[1]", "true"]),
    "regex": ({"type": "regex", "pattern": r"\d{2}/x"}, ["12/x"], ["1/x", "12/xx"]),
    "any_text": (ANY, ["", "any <thing>\n여울"], []),
    "sequence": (of("sequence", const("a"), BOOLEANS, const("b")), ["a[]b", "a[true]b"], ["ab", "a[]", "a[]bb"]),
    "sequence of constants": (of("sequence", const("a"), const("b")), ["ab"], ["a", "b", "abb"]),
    "text before constants": (of("sequence", ANY, const("."), const("!")), [".!", "so be it.!", "a.b.!"], ["so", "so."]),
    "or": (of("or", const("yes"), tag("<f>", ANY, "</f>")), ["yes", "<f></f>", "<f>a<b</f>"], ["no", "<f>a"]),
    "tag with text": (
        tag("<think>", ANY, "</think>"), ["<think></think>", "<think>a < b\n</think>"], ["a", "<think>a", "<think></think>b"]
    ),
    "text before constants in a tag": (
        tag("<a>", of("sequence", ANY, const("."), const("!")), ["</a>", "<end>"]), ["<a>b.!</a>", "<a>.!<end>"], ["<a>b</a>"]
    ),
    "tag with several ends": (tag("<a>", ANY, ["</a>", "<end>"]), ["<a>x</a>", "<a>x<end>"], ["<a>x"]),
    "tag in a tag": (tag("<a>", F, "</a>"), ["<a><f>[]</f></a>"], ["<a></a>", "<a><f>[]</a>"]),
    "thought, then an answer": (
        of("sequence", tag("<think>", ANY, "</think>"), triggered(F)),
        ["<think>hm</think>Fine.", "<think></think>so <f>[true]</f> it is"],
        ["Fine.", "<think>hm", "<think></think><f>[1]</f>"],
    ),
    "triggered_tags": (
        triggered(F, G),
        ["", "free <text>", "so <f>[true]</f> and <fg>a/b</fg>."],
        ["<f>[1]</f>", "<fx>", "<f>[]", "<fg></fg>"],
    ),
    "triggered_tags, at least one": (
        triggered(F, at_least_one=True), ["<f>[]</f>", "<f>[]</f> and <f>[]</f>."], ["", "so <f>[]</f>"]
    ),
    "triggered_tags, one at most": (triggered(F, stop_after_first=True), ["so", "so <f>[]</f>"], ["<f>[]</f> and"]),
    "triggered_tags, one": (
        triggered(F, at_least_one=True, stop_after_first=True), ["<f>[]</f>"], ["", "a<f>[]</f>", "<f>[]</f>a"]
    ),
    "triggered_tags in a tag": (
        tag("<a>", triggered(F), "</a>"),
        ["<a></a>", "<a>so <f>[]</f> it is</a>"],
        ["<a>so", "<a><f>[1]</f></a>", "<a></a>b"],
    ),
    "tags_with_separator": (
        separated(F, G),
        ["", "<f>[]</f>", "<f>[]</f>, <fg>a</fg>, <f>[]</f>"],
        ["a", "<f>[]</f>,", "<f>[]</f><f>[]</f>"],
    ),
    "tags_with_separator, at least one": (separated(F, at_least_one=True), ["<f>[]</f>"], [""]),
    "tags_with_separator, one": (
        separated(F, at_least_one=True, stop_after_first=True), ["<f>[]</f>"], ["", "<f>[]</f>, <f>[]</f>"]
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return byte_compiler()


def grammar_of(wanted: object) -> str:
    value = {"type": "structural_tag", "format": wanted}
    grammar = StructuredOutput("structural_tag", value, "response_format").grammar()
    assert StructuredOutput("structural_tag", json.dumps(value), "structured_outputs.structural_tag").grammar() == grammar
    return grammar


def fits(compiler: GrammarCompiler, grammar: str, text: str) -> bool:
    matcher = compiler.matcher(grammar)
    try:
        matcher.accept(text.encode())
        return END in allowed(matcher)
    except GrammarError:
        return False


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_lets_through_what_it_says_and_nothing_else(compiler, name):
    wanted, right, wrong = FORMATS[name]
    grammar = grammar_of(wanted)
    assert [text for text in right if not fits(compiler, grammar, text)] == []
    assert [text for text in wrong if fits(compiler, grammar, text)] == []


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (5, "has to be one of const_string"),
        ({}, "has to be one of const_string"),
        ({"type": "qwen_xml_parameter", "json_schema": {}}, "qwen_xml_parameter"),
        ({"type": "const_string"}, "value"),
        (of("sequence"), "nothing in it"),
        (of("or"), "nothing in it"),
        (triggered(), "nothing in it"),
        (separated(), "nothing in it"),
        ({**triggered(F), "triggers": []}, "one trigger"),
        ({**triggered(F), "triggers": ["<x"]}, "none of the triggers"),
        (tag("<a>", ANY, ""), "has no end"),
        (tag("<a>", ANY, []), "has no end"),
        (of("sequence", ANY, BOOLEANS), "have to stand last"),
        (of("sequence", triggered(F), BOOLEANS), "have to stand last"),
        ({"type": "json_schema", "json_schema": 5}, "has to be an object"),
        ({"type": "json_schema", "json_schema": {}, "style": "qwen_xml"}, "style"),
        ({"type": "regex", "pattern": ""}, "is empty"),
    ],
)
def test_what_cannot_be_held_is_refused_by_the_name_of_its_field(wanted, reason):
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        grammar_of(wanted)
    assert caught.value.param == "response_format"


def test_a_large_tree_becomes_no_larger_grammar():
    """Each end is written once, however many alternatives it stands behind."""
    long = const("x" * 10_000)
    wanted = of("sequence", of("or", *[const(str(number)) for number in range(1000)], ANY), *[long] * 10)
    value = {"type": "structural_tag", "format": wanted}
    assert len(StructuredOutput("structural_tag", value, "response_format").grammar()) < 3 * len(json.dumps(value))
