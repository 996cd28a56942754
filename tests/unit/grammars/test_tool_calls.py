"""Grammars of calls: every family's compile, with its markers as tokens and as text, behind reasoning and without."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.grammars.grammar_of_bytes import byte_compiler
from yeoul.errors import InvalidRequestError
from yeoul.grammars.lark_rules import Reasoning
from yeoul.grammars.tool_calls import SpelledCall, calls_grammar
from yeoul.text.answers.families import TOOL_FAMILIES, ToolFamily
from yeoul.text.answers.reasoning import REASONING_FAMILIES

SCHEMAS: dict[str, dict[str, Any]] = {
    "two": {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "c": {"type": "boolean"}},
        "required": ["b"],
    },
    "none": {"type": "object", "properties": {}},
}
COMPILER = byte_compiler()


@pytest.mark.parametrize("reasoning", [None, *REASONING_FAMILIES], ids=lambda family: family.name if family else "none")
@pytest.mark.parametrize("are_special", [False, True])
@pytest.mark.parametrize("must_call", [False, True])
@pytest.mark.parametrize("family", TOOL_FAMILIES, ids=lambda family: family.name)
def test_the_grammar_of_every_family_compiles(family: ToolFamily, must_call, are_special, reasoning):
    calls = [SpelledCall(name, family.calls.spelling(name, schema), schema) for name, schema in SCHEMAS.items()]
    markers = {*family.calls.markers, *(reasoning.markers if reasoning else ())} if are_special else set()
    special = {marker: 256 + index % 2 for index, marker in enumerate(sorted(markers))}
    thought = None if reasoning is None else Reasoning(reasoning.begin, reasoning.end, is_open=are_special)
    has_mark = bool(calls[0].spelling.section_begin or calls[0].spelling.trigger)
    if not must_call and not has_mark:
        with pytest.raises(InvalidRequestError, match="no mark"):
            calls_grammar(calls, special, must_call=must_call, is_single=False, reasoning=thought)
        return
    COMPILER.matcher(calls_grammar(calls, special, must_call=must_call, is_single=False, reasoning=thought))
