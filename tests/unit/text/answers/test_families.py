"""What every family's answers consist of, from whole texts."""

from __future__ import annotations

import json
import re

import pytest

from tests.unit.text.answers.cases import CASES
from tests.unit.text.answers.reading import Case, add_up, events_of
from yeoul.text.answers.families import TOOL_FAMILIES, marker_tokens, reasoning_family, tool_family
from yeoul.text.answers.parts import CallArguments, CallBegin, Part
from yeoul.text.answers.reasoning import REASONING_FAMILIES

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.tools or case.reasoning}: {case.name}")


@cases
def test_an_answer_has_its_parts(case: Case):
    assert case.read() == list(case.parts)


@cases
def test_an_answer_has_its_parts_where_its_markers_are_tokens(case: Case):
    tools = tool_family(case.tools) if case.tools is not None else None
    reasoning = reasoning_family(case.reasoning) if case.reasoning is not None else None
    if case.name in ("no think", "glm", "gemma, cut", "a lone end"):
        pytest.skip("it has a marker, or a piece of one, as ordinary text")
    every_marker = [
        *(tools.calls.markers if tools is not None else ()),
        *(reasoning.markers if reasoning is not None else ()),
    ]
    tokens = {marker for marker in every_marker if not re.search("param|function|invoke", marker)}
    assert case.read(marked=marker_tokens(tools, reasoning, tokens)) == list(case.parts)


@cases
def test_a_call_is_one_json_object_or_is_counted_as_unfinished(case: Case):
    for size in (len(case.text), len(case.text) - 5, len(case.text) // 2):
        reader = case.reader()
        calls = calls_of(add_up(events_of(reader, case.text[:size], [])))
        assert reader.num_calls == len(calls)
        assert reader.num_unfinished_calls == sum(not is_object(arguments) for _, arguments in calls.values())
        assert reader.num_unfinished_calls <= (case.is_damaged or size < len(case.text))


@cases
def test_an_answer_that_is_cut_off_has_a_beginning_of_the_same_calls(case: Case):
    whole = calls_of(case.parts)
    for size in range(len(case.text)):
        for index, (name, arguments) in calls_of(case.read(case.text[:size])).items():
            assert whole[index][0] == name
            if not case.is_damaged:
                assert whole[index][1].startswith(arguments)


def is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def calls_of(parts: list[Part] | tuple[Part, ...] | object) -> dict[int, tuple[str, str]]:
    found: dict[int, tuple[str, str]] = {}
    assert isinstance(parts, list)
    for part in parts:
        if isinstance(part, CallBegin):
            found[part.index] = (part.name, "")
        elif isinstance(part, CallArguments):
            found[part.index] = (found[part.index][0], part.text)
    return found


def test_every_family_has_a_case():
    assert {family.name for family in TOOL_FAMILIES} == {case.tools for case in CASES} - {None}
    assert {"qwen3", "deepseek_r1", "mistral", "gemma4", "glm45", "openai_gptoss"} <= {case.reasoning for case in CASES}
    assert len({family.name for family in REASONING_FAMILIES}) == len(REASONING_FAMILIES)
