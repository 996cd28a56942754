"""What a grammar would have a model write is what the reader reads: written by the spelling, read back the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.text.answers.reading import SCHEMAS, Case, said
from yeoul.text.answers.call_format import CallSpelling
from yeoul.text.answers.families import TOOL_FAMILIES, ToolFamily, marker_tokens
from yeoul.text.answers.parts import CallArguments, CallBegin

FORBIDDEN = ("<|", "<escape>", "</parameter>", "</arg_value>", "</arg_key>")
texts = st.text(max_size=20).filter(lambda text: not any(marker in text for marker in FORBIDDEN))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=8,
)
arguments_of_weather = st.fixed_dictionaries(
    {},
    optional={
        "city": texts,
        "days": st.integers(),
        "exact": st.booleans(),
        "where": st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), values, max_size=3),
        "tags": st.lists(values, max_size=3),
    },
)


def written(spelling: CallSpelling, arguments: dict[str, Any]) -> str:
    """The arguments as the spelling has them."""
    if spelling.arguments == "json":
        return json.dumps(arguments, ensure_ascii=False)
    write = {"python": repr, "tagged": lambda value: value if isinstance(value, str) else json.dumps(value)}.get(
        spelling.arguments, lambda value: gemma(value, spelling.string_quote)
    )
    return spelling.argument_separator.join(
        spelling.argument.replace("{key}", key).replace("{value}", write(value)) for key, value in arguments.items()
    )


def gemma(value: Any, quote: str) -> str:
    if isinstance(value, str):
        return f"{quote}{value}{quote}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{gemma(inner, quote)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(gemma(inner, quote) for inner in value) + "]"
    return json.dumps(value)


@pytest.mark.parametrize("family", TOOL_FAMILIES, ids=lambda family: family.name)
@given(calls=st.lists(st.tuples(st.sampled_from(["weather"]), arguments_of_weather), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None)
def test_calls_that_are_written_as_a_family_spells_them_are_read_back(family: ToolFamily, calls):
    text = ""
    spelling = family.calls.spelling("weather", SCHEMAS["weather"])
    for name, arguments in calls:
        spelling = family.calls.spelling(name, SCHEMAS[name])
        text += (spelling.separator if text else "") + spelling.begin + written(spelling, arguments) + spelling.end
    text = spelling.section_begin + text + spelling.section_end
    assert not spelling.trigger or text.startswith(spelling.trigger)
    case = Case("", text, [], family.name, "openai_gptoss" if family.name == "openai" else None)
    tokens = marker_tokens(family, None, [marker for marker in family.calls.markers if "param" not in marker])
    for marked in ((), tokens):
        if marked and "</" in repr(calls):
            continue
        parts = case.read(marked=marked)
        assert [part.name for part in parts if isinstance(part, CallBegin)] == [name for name, _ in calls]
        read = [json.loads(part.text) for part in parts if isinstance(part, CallArguments)]
        assert read == [arguments for _, arguments in calls]
        assert len(parts) == 2 * len(calls)


@pytest.mark.parametrize("family", TOOL_FAMILIES, ids=lambda family: family.name)
def test_a_call_without_arguments_is_read_back(family):
    spelling = family.calls.spelling("now", SCHEMAS["now"])
    text = spelling.section_begin + spelling.begin + ("{}" if spelling.arguments == "json" else "") + spelling.end
    reasoning = "openai_gptoss" if family.name == "openai" else None
    case = Case("", text + spelling.section_end, [], family.name, reasoning)
    assert case.read() == [CallBegin(0, "now"), CallArguments(0, "{}")]


@pytest.mark.parametrize("family", TOOL_FAMILIES, ids=lambda family: family.name)
def test_text_without_markers_is_text(family):
    assert Case("", "", [], family.name).read(" a {b} [c] (d)\n") == said(" a {b} [c] (d)\n")
