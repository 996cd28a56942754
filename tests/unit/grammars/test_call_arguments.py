"""Arguments of calls fit their schemas, as every family writes them: whatever a grammar lets through is read, and is valid.

The checker is another library (jsonschema-rs), which knows nothing of grammars. What is let through is found by going at
random, byte by byte, towards the characters that end things.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from typing import Any

import jsonschema_rs
import pytest

from tests.unit.grammars.grammar_of_bytes import END, allowed, byte_compiler
from tests.unit.text.answers.reading import add_up, events_of
from yeoul.errors import InvalidRequestError
from yeoul.grammars.matcher import GrammarError
from yeoul.grammars.tool_calls import SpelledCall, calls_grammar
from yeoul.text.answers.answer_reader import AnswerReader
from yeoul.text.answers.families import TOOL_FAMILIES, ToolFamily, tool_family
from yeoul.text.answers.parts import CallArguments, CallBegin

COMPILER = byte_compiler()
TREE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 2},
        "next": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]},
    },
    "required": ["name"],
    "additionalProperties": False,
}
PROPERTIES: dict[str, dict[str, Any]] = {
    "lengths": {"text": {"type": "string", "minLength": 2, "maxLength": 4}},
    "a pattern": {"text": {"type": "string", "pattern": "^[a-c]+/\\d{2}$"}, "other": {"type": "string", "pattern": "b\\w"}},
    "a pattern of alternatives": {"text": {"type": "string", "pattern": "ab|<c|/p"}},
    "a pattern and a length": {"text": {"type": "string", "pattern": "^x", "maxLength": 3}},
    "choices": {"unit": {"enum": ["C", "F", "deg <b>"]}, "kind": {"const": "river"}, "level": {"enum": [1, 2.5, None, "x"]}},
    "numbers": {
        "days": {"type": "integer", "minimum": 3, "maximum": 12},
        "part": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "words": {"exact": {"type": "boolean"}, "nothing": {"type": "null"}},
    "lists": {
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 2}, "minItems": 1, "maxItems": 3},
        "pairs": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "maxItems": 2}, "maxItems": 2},
    },
    "objects": {
        "where": {
            "type": "object",
            "properties": {"lat": {"type": "number"}, "city": {"type": "string", "minLength": 1, "maxLength": 3}},
            "required": ["city"],
            "additionalProperties": False,
        }
    },
    "any names": {"counts": {"type": "object", "additionalProperties": {"type": "integer"}}},
    "a reference to itself": {"tree": {"$ref": "#/$defs/tree"}},
    "several types": {"unit": {"type": ["integer", "null"]}, "either": {"anyOf": [{"type": "integer"}, {"type": "boolean"}]}},
}
CASES = {
    f"{name}, {'all' if is_required else 'none'} required": {
        "type": "object",
        "properties": properties,
        "required": list(properties) if is_required else [],
        "additionalProperties": False,
        "$defs": {"tree": TREE},
    }
    for name, properties in PROPERTIES.items()
    for is_required in (True, False)
}


PATCH = """start: begin_patch hunk+ end_patch
begin_patch: "*** Begin Patch" LF
end_patch: "*** End Patch" LF?

hunk: add_hunk | delete_hunk | update_hunk
add_hunk: "*** Add File: " filename LF add_line+
delete_hunk: "*** Delete File: " filename LF
update_hunk: "*** Update File: " filename LF change_move? change?

filename: /(.+)/
add_line: "+" /(.*)/ LF -> line

change_move: "*** Move to: " filename LF
change: (change_context | change_line)+ eof_line?
change_context: ("@@" | "@@ " /(.+)/) LF
change_line: ("+" | "-" | " ") /(.*)/ LF
eof_line: "*** End of File" LF

%import common.LF
"""
# Each with an expression of the same texts, which Python reads; None where there is none.
TEXT_GRAMMARS: dict[str, tuple[str, str | None]] = {
    "apply_patch": (
        PATCH,
        r"\*{3} Begin Patch\n(?:\*{3} Add File: .+\n(?:\+.*\n)+|\*{3} Delete File: .+\n|\*{3} Update File: .+\n"
        r"(?:\*{3} Move to: .+\n)?(?:(?:@@(?: .+)?\n|[-+ ].*\n)+(?:\*{3} End of File\n)?)?)+\*{3} End Patch\n?",
    ),
    "quotes and escapes": (
        'start: (WORD ("\\n" | "\\";" WORD | /[\\\\\\t"]/ | "\\t\\\\"))+ "."\nWORD: /[a-c"\\\\]{1,3}/',
        r'(?:[a-c"\\]{1,3}(?:\n|";[a-c"\\]{1,3}|[\\\t"]|\t\\))+\.',
    ),
    "open at its end": ("start: /[^b]+/", "[^b]+"),
    "of any characters": ("start: /(?s:.{1,9})/", "(?s:.{1,9})"),
    "any case, ranges, counts": (
        'start: "Ab"i ("x".."z")~2 [C] "d"{1,2} | /(?i:q"\\n)+/\nC: "1" | "2"',
        '[Aa][Bb][x-z]{2}[12]?d{1,2}|(?i:q"\n)+',
    ),
    "what is skipped": (
        'start: item ("," item)* ";"\nitem: /[a-b]+/ | "\\""\n%ignore /[ \\n]+/',
        r'(?:[ab]+|")\s*(?:,\s*(?:[ab]+|")\s*)*;\s*',
    ),
    "rules that lead back": ('start: sum\nsum: sum "+" part | part\npart: NUMBER | "(" sum ")"\nNUMBER: /[1-2x]+/', None),
    "one that is skipped and leads back": ('start: part\npart: /[ab]+/ | "(" part "," part ")"\n%ignore " "', None),
}
TEXT: dict[str, Any] = {
    "type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"], "additionalProperties": False,
}  # fmt: skip


def grammar_of(family: ToolFamily, schema: dict[str, Any], text_grammar: str = "") -> str:
    call = SpelledCall("find", family.calls.spelling("find", schema), schema, text_grammar)
    return calls_grammar([call], {}, must_call=True, is_single=True)


def wander(family: ToolFamily, schema: dict[str, Any], seed: int, num_bytes: int = 800, text_grammar: str = "") -> str | None:
    """An answer that the grammar lets through; None where it is not at an end after so many bytes."""
    steps, matcher, answer = random.Random(seed), COMPILER.matcher(grammar_of(family, schema, text_grammar)), bytearray()
    spelling = family.calls.spelling("find", schema)
    ending = (spelling.string_quote or spelling.argument.partition("{value}")[2]).encode()  # of a text: never met by chance
    ending = ending or (b"\\n" if text_grammar else b"")
    while len(answer) < num_bytes:
        tokens = allowed(matcher)
        if END in tokens or not tokens:
            return answer.decode()
        kinds = [tokens & set(kind) for kind in (b'"}]|>/)\n', b"ab1", b'x 2,:{["\\nC', range(128), range(256))]
        weights = [40 * bool(kinds[0]), 30 * bool(kinds[1]), 10 * bool(kinds[2]), bool(kinds[3]), not kinds[3]]
        (kind,) = steps.choices(kinds, weights)
        for token in ending if ending and steps.random() < 0.2 else [steps.choice(sorted(kind))]:
            if token not in allowed(matcher):
                break
            answer.append(token)
            matcher.accept([token])
    return None


def read(family: ToolFamily, schema: dict[str, Any], answer: str) -> Any:
    reader = AnswerReader(tool_family(family.name), None, schemas={"find": schema}, marked=(), opening="")
    parts = add_up(events_of(reader, answer, ()))
    assert [part.name for part in parts if isinstance(part, CallBegin)] == ["find"], (answer, parts)
    (arguments,) = [part.text for part in parts if isinstance(part, CallArguments)]
    return json.loads(arguments)


@pytest.mark.parametrize("family", TOOL_FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("name", CASES)
def test_what_a_grammar_lets_through_is_read_and_valid(family: ToolFamily, name: str):
    schema = CASES[name]
    answers = {answer for seed in range(6) if (answer := wander(family, schema, seed)) is not None}
    assert answers, "no answer came to an end"
    for answer in answers:
        found = read(family, schema, answer)
        assert jsonschema_rs.is_valid(schema, found), (answer, found)


def fits(text: str, grammar: str) -> bool:
    """Whether it follows the grammar as it is."""
    matcher = COMPILER.matcher(grammar)
    try:
        matcher.accept(text.encode())
    except GrammarError:
        return False
    return END in allowed(matcher)


@pytest.mark.parametrize("family", TOOL_FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("name", TEXT_GRAMMARS)
def test_a_text_that_a_grammar_lets_through_is_read_and_follows_it(family: ToolFamily, name: str):
    (grammar, pattern), found = TEXT_GRAMMARS[name], set()
    answers = (wander(family, TEXT, seed, text_grammar=grammar) for seed in range(40))
    for answer in itertools.islice(filter(None, answers), 3):
        found.add(read(family, TEXT, answer)["input"])
    assert found, "no answer came to an end"
    for text in found:
        assert fits(text, grammar) if pattern is None else re.fullmatch(pattern, text), text


@pytest.mark.parametrize("family", TOOL_FAMILIES, ids=lambda family: family.name)
def test_a_patch_can_be_written_whatever_is_in_its_lines(family: ToolFamily):
    lines = ['+\tx = "a\\n" <b>', "+</parameter> is no end here", "-", "+'\u00e9\U0001f30a'", ' {"a": [1]}']
    spelling = family.calls.spelling("find", TEXT)
    if (mark := spelling.string_quote or spelling.argument.partition("{value}")[2]) in lines[1]:
        lines.pop(1)
    assert mark not in "".join(lines) or not mark
    text = "\n".join(["*** Begin Patch", "*** Update File: a b/c.py", "@@ def f():", *lines, "*** End Patch"])
    matcher = COMPILER.matcher(grammar_of(family, TEXT, PATCH))
    written = text if mark else json.dumps(text, ensure_ascii=False)[1:-1]
    match spelling.arguments:
        case "json":
            arguments = f'{{"input": "{written}"}}'
        case "python":
            arguments = f'input="{written}"'
        case "gemma":
            arguments = f"input:{mark}{written}{mark}"
        case "tagged":
            arguments = spelling.argument.replace("{key}", "input").replace("{value}", written)
    answer = spelling.section_begin + spelling.begin + arguments + spelling.end + spelling.section_end
    matcher.accept(answer.encode())
    assert END in allowed(matcher)
    assert read(family, TEXT, answer) == {"input": text}


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        ("start: <|im_end|>", "stands for no text"),
        ('start: %json {"type": "string"}', "stands for no text"),
        ("start: @other", "stands for no text"),
        ("%import python.NUMBER\nstart: NUMBER", "where the name of a rule should be"),
        ("%import common.NOTHING\nstart: NOTHING", "common has no 'NOTHING'"),
        ("start: A\nA: /a+/ & ~/aa/", "'~' cannot be held"),
        ('start[stop="x"]: /a+/', "cannot be held|has to be a colon"),
        ('start: part\npart: /./ | "(" part ")"', "lead back to themselves"),
        ("start: /[[:alpha:]]/", "the class .* cannot be held"),
        ('start "a"', "has to be a colon"),
        ('start: "' + '\\"' * 50_000, "has no end"),
        ("start: /" + "\\/" * 50_000, "has no end"),
        ("start: a\n" + "".join(f"a{number}: a{number - 1}\n" for number in range(9_000, 0, -1)), "cannot be used"),
        ("start: nothing", "cannot be used"),
        ("start: /a(?=b)/", "cannot be used"),
        ("start: /(/", "cannot be used"),
        ("begin: /a/", "cannot be used"),
        ('start: "a" "\\q"', "is no string|cannot be used"),
        ("start: " + "(" * 2000 + '"a"' + ")" * 2000, "cannot be used"),
    ],
)
def test_a_grammar_of_a_text_that_cannot_be_held_is_refused_in_words(grammar, words):
    with pytest.raises(InvalidRequestError, match=words):
        COMPILER.matcher(grammar_of(tool_family("hermes"), TEXT, grammar))


def of_one(part: object) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": part}}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (of_one({"not": {"type": "string"}}), "find: 'not' cannot be held"),
        (of_one({"type": "array", "uniqueItems": True}), "'uniqueItems' cannot be held"),
        (of_one({"anyOf": [{"type": "string"}], "minLength": 3}), "'minLength' cannot be held"),
        (of_one({"allOf": [{"type": "string"}, {"maxLength": 3}]}), "'allOf' cannot be held"),
        (of_one({"oneOf": [{"type": "string"}, {"maxLength": 3}]}), "'oneOf' cannot be held"),
        (of_one({"type": "array", "minItems": 3, "maxItems": 2}), "no list has 3 items"),
        (of_one({"type": "array", "maxItems": 1 << 40}), "1099511627776 items"),
        (of_one({"type": "string", "maxLength": -1}), "the length -1"),
        (of_one({"type": "string", "pattern": 5}), "a pattern has to be a string"),
        (of_one({"type": "text"}), "is no type"),
        (of_one({"type": {}}), "is no type"),
        (of_one({"type": ["string", 5]}), "is no type"),
        (of_one({"enum": [1], "type": {}}), "is no type"),
        (of_one({"type": "string", "minLength": 5, "maxLength": 2}), "no string has 5 characters"),
        (of_one(7), "no object of schemas"),
        (of_one({"type": "array", "items": 5}), "no value fits 5"),
        (of_one({"enum": ["a"], "type": "integer"}), "has the type"),
        (of_one({"$ref": "#/$defs/gone"}), "leads to nothing"),
        (of_one({"const": '<|"|>'}), "the mark that ends a string"),
        ({"required": ["x"], "additionalProperties": False}, "'x' is required, and no value fits it"),
        ({"required": "x"}, "no list of names"),
        ({"properties": [1]}, "no object of schemas"),
    ],
)
def test_what_cannot_be_held_is_refused_in_words(schema, words):
    with pytest.raises(InvalidRequestError, match=words):
        grammar_of(tool_family("gemma4"), schema)


@pytest.mark.parametrize("pattern", ["(a|^b)c", "a|b$", r"\bword\b", "(?=a)b", "[", "a{999999}"])
@pytest.mark.parametrize("family", ["gemma4", "glm45"])
def test_a_pattern_that_cannot_be_held_is_refused_when_it_is_compiled(family, pattern):
    with pytest.raises(InvalidRequestError, match="the grammar cannot be used"):
        COMPILER.matcher(grammar_of(tool_family(family), of_one({"type": "string", "pattern": pattern})))


ROOTS = [
    ({"anyOf": [{"required": ["x"]}]}, "'anyOf' cannot be held"),
    ({"type": "object", "minProperties": 1}, "'minProperties' cannot be held"),
    ({"$ref": "#/$defs/gone"}, "are no object"),
    ({"$ref": "#"}, "'\\$ref' cannot be held"),
    ({"$ref": 5}, "are no object"),
    ({"type": "array"}, "are no object"),
]


@pytest.mark.parametrize("family", ["gemma4", "glm45", "pythonic"])
@pytest.mark.parametrize(("schema", "words"), ROOTS)
def test_what_is_asked_of_all_arguments_is_held_or_refused(family, schema, words):
    with pytest.raises(InvalidRequestError, match=words):
        grammar_of(tool_family(family), schema)


@pytest.mark.parametrize("family", ["gemma4", "glm45", "pythonic"])
def test_parameters_may_be_a_reference_and_many(family):
    many = {"type": "object", "properties": {f"p{number}": {"type": "integer"} for number in range(300)}, "required": ["p7"]}
    grammar = grammar_of(tool_family(family), {"$ref": "#/$defs/many", "$defs": {"many": many}})
    assert len(grammar) < 150_000
    COMPILER.matcher(grammar)


def test_a_tree_whose_root_are_the_arguments_themselves():
    schema = of_one({"type": "array", "items": {"$ref": "#"}, "maxItems": 2}) | {"additionalProperties": False}
    answers = [answer for seed in range(8) if (answer := wander(tool_family("gemma4"), schema, seed)) is not None]
    assert answers
    assert all(jsonschema_rs.is_valid(schema, read(tool_family("gemma4"), schema, answer)) for answer in answers)


def test_objects_in_objects_are_written_once_each():
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(25):
        schema = {"type": "object", "properties": {"a": schema, "b": {"type": "integer"}}}
    assert len(grammar_of(tool_family("gemma4"), schema)) < 20_000


def test_what_is_required_comes_though_nothing_else_is_said_of_it():
    schema = {"type": "object", "required": ["x"], "properties": {"y": {"type": "integer"}}}
    for family in ("gemma4", "glm45", "pythonic"):
        answers = [answer for seed in range(8) if (answer := wander(tool_family(family), schema, seed)) is not None]
        assert answers
        assert all("x" in read(tool_family(family), schema, answer) for answer in answers)
