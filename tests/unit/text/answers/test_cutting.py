"""The law of the reader: its events add up to the same in every way of cutting a text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.text.answers.cases import CASES
from tests.unit.text.answers.reading import Case, add_up, events_of
from yeoul.text.answers.families import TOOL_FAMILIES, marker_tokens, reasoning_family, tool_family
from yeoul.text.answers.parts import TextPart

FAMILIES = [(family.name, "qwen3") for family in TOOL_FAMILIES if family.name not in ("openai", "gemma4", "mistral")]
FAMILIES += [("openai", "openai_gptoss"), ("gemma4", "gemma4"), ("mistral", "mistral")]
PIECES = [
    "weather", "now", '"name": "now"', '"arguments": {}', '{"name": "weather", "arguments": {"city": "', '"}}',
    "{", "}", "[", "]", "(", ")", "=", ",", ":", ";", '"', "'", "\\", "\\u00", "\\ud83d", "1", "-1.5e", "true", "None",
    "\n", " ", "  \n", "x", "é", "\U0001f600", "city", "days", "```json\n", "call:", "function",
    "commentary to=functions.now ", "analysis", "final", "<", "</", "<|", "|>",
]  # fmt: skip


def markers_of(tools: str, reasoning: str) -> list[str]:
    return [*tool_family(tools).calls.markers, *reasoning_family(reasoning).markers]


@st.composite
def answers(draw: st.DrawFn) -> tuple[Case, list[str]]:
    """A made-up answer for some family: a case with a bit changed, or only pieces of what stands in such answers."""
    tools, reasoning = draw(st.sampled_from(FAMILIES))
    markers = markers_of(tools, reasoning)
    pieces = st.lists(st.sampled_from([*markers, *tool_family(tools).calls.begins, *PIECES]), max_size=12).map("".join)
    text = draw(st.sampled_from(["", *(case.text for case in CASES if case.tools == tools)]))
    start, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    text = text[:start] + draw(pieces) + text[draw(st.sampled_from([start, end])) :]
    text += draw(pieces)
    opening = draw(st.sampled_from(["", "<think>\n"]))
    return Case("made up", text, [], tools, reasoning, opening), markers


@given(answers(), st.lists(st.integers(0, 300)), st.booleans(), st.sets(st.integers(0, 5)))
@settings(max_examples=400, deadline=None)
def test_the_events_add_up_to_the_same_in_every_way_of_cutting_the_text(answer, cuts, has_marks, written_out):
    case, markers = answer
    marked = marker_tokens(tool_family(case.tools), reasoning_family(case.reasoning), markers) if has_marks else ()
    whole = case.read(marked=marked, written_out=written_out)
    assert case.read(cuts=cuts, marked=marked, written_out=written_out) == whole
    assert case.read(cuts=range(len(case.text)), marked=marked, written_out=written_out) == whole


@given(st.sampled_from(CASES), st.integers(0, 400), st.lists(st.integers(0, 400)))
@settings(max_examples=500, deadline=None)
def test_so_they_do_where_the_answer_is_cut_off(case, size, cuts):
    text = case.text[:size]
    assert case.read(text, cuts) == case.read(text)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_so_they_do_character_by_character(case):
    assert case.read(cuts=range(len(case.text))) == list(case.parts)


@given(
    st.sampled_from(FAMILIES[:-3]),
    st.lists(st.sampled_from(["!", "{", "}", '"', " ", "\n", "(", "é"]), max_size=20),
    st.data(),
)
@settings(max_examples=300, deadline=None)
def test_where_no_call_comes_of_it_all_text_is_kept(family, pieces, data):
    tools, _ = family
    for marker in data.draw(st.lists(st.sampled_from([*tool_family(tools).calls.markers, "["]), max_size=4)):
        pieces.insert(data.draw(st.integers(0, len(pieces))), f"{marker}!")
    text = "".join(pieces)
    assert Case("", "", [], tools).read(text) == ([TextPart(text)] if text else [])


def test_a_marker_counts_only_where_its_token_begins():
    case = Case("", "", [], "hermes", "qwen3")
    text = '<tool_call>{"name": "now"}</tool_call>'
    reader = case.reader(marked=["<tool_call>"])
    assert add_up(events_of(reader, text + text, [], [len(text)])) == [TextPart(text), *case.read(text)]
    assert add_up(events_of(case.reader(marked=["<tool_call>"]), text, [], [1, 5])) == [TextPart(text)]


def test_reasoning_begins_later_only_with_a_token():
    case = Case("", "", [], None, "qwen3")
    assert len(case.read("a<think>b</think>c")) == 1
    assert len(case.read("a<think>b</think>c", marked=["<think>", "</think>"])) == 3


def test_a_token_that_ends_no_reasoning_is_dropped():
    case = Case("", "", [], None, "qwen3")
    assert case.read("a</think>\n\nb") == [TextPart("a</think>\n\nb")]
    assert case.read("a</think>\n\nb", marked=["<think>", "</think>"]) == [TextPart("a\n\nb")]
    assert case.read("</think>\n\nb", marked=["<think>", "</think>"]) == [TextPart("b")]


def test_text_that_is_given_back_keeps_its_marks():
    case = Case("", "", [], "hermes", "qwen3")
    text = '<tool_call>{"id":<think>a</think>b'
    marked = ["<tool_call>", "<think>", "</think>"]
    assert case.read(text, range(len(text)), marked) == case.read(text, marked=marked)
    assert len(case.read(text, marked=marked)) == 3
