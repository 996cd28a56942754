"""A long answer: nothing is read twice, and nothing is held back that is certain."""

from __future__ import annotations

import random
import sys
from types import FrameType
from typing import Any

import pytest

from tests.unit.text.answers.reading import Case
from yeoul.text.answers.parts import TextPart

WEATHER = '<tool_call>{"name": "weather", "arguments": {'
# By family: a beginning, and what is repeated behind it.
LONG = {
    "text": ("hermes", "", "word "),
    "spaces": ("hermes", "", " "),
    "almost markers": ("hermes", "", "<tool_cal"),
    "markers": ("hermes", "", "<tool_call>"),
    "brackets": ("hermes", "", "<tool_call>{"),
    "calls": ("hermes", "", WEATHER + "}}</tool_call>"),
    "one string": ("hermes", WEATHER + '"city": "', "word "),
    "escapes": ("hermes", WEATHER + '"city": "', r"\n\u00e9"),
    "arguments first": ("hermes", '<tool_call>{"arguments": {"city": "', "word "),
    "one name": ("hermes", '<tool_call>{"name": "', "word "),
    "numbers": ("hermes", WEATHER + '"tags": [', "1, "),
    "one number": ("hermes", WEATHER + '"days": ', "1"),
    "depth": ("hermes", WEATHER + '"tags": ', "["),
    "a value": ("qwen3_coder", "<function=weather>\n<parameter=city>\n", "line\n"),
    "almost ends": ("qwen3_coder", "<function=weather>\n<parameter=city>\n", "\n</parameter>  "),
    "a value that is no string": ("glm45", "<tool_call>weather\n<arg_key>where</arg_key><arg_value>", "line\n"),
    "a name without end": ("glm45", "<tool_call>", "a"),
    "names without end": ("glm45", "", "<tool_call>a "),
    "python's string": ("pythonic", "[weather(city='", "word "),
    "lists": ("lfm2", "", "<|tool_call_start|>["),
    "lists in lists": ("lfm2", "<|tool_call_start|>[f(a=", "["),
    "gemma's string": ("gemma4", '<|tool_call>call:weather{city:<|"|>', "word <|"),
    "bare words": ("gemma4", "<|tool_call>call:weather{city:", "word "),
    "a message": ("openai", "<|channel|>final<|message|>", "word <|"),
    "headers": ("openai", "", "<|start|>"),
    "one header": ("openai", "<|start|>", "word "),
    "no names": ("mistral", "", "[TOOL_CALLS]"),
    "sections": ("deepseek_v31", "", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"),  # noqa: RUF001
}


@pytest.mark.parametrize(("tools", "beginning", "repeated"), LONG.values(), ids=LONG)
@pytest.mark.parametrize("is_cut", [True, False], ids=["by characters", "in one piece"])
def test_a_long_answer_is_read_with_work_that_grows_as_its_length(tools, beginning, repeated, is_cut):
    short, long = (work_of(tools, beginning + repeated * (size // len(repeated)), is_cut) for size in (1000, 4000))
    assert long <= 6 * short  # what grows with the square would be sixteen times as much


def work_of(tools: str, text: str, is_cut: bool) -> int:
    """How much is done for a text: the lines of the reader that are run, and the characters that they leave unread."""
    reader = Case("", "", [], tools, "openai_gptoss" if tools == "openai" else None).reader()
    work = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal work
        if "answers" not in frame.f_code.co_filename:
            return None
        work += event == "line"
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        for piece in text if is_cut else [text]:
            reader.feed(piece)
            assert reader._tape.num_unread < 700
            work += reader._tape.num_unread
        reader.finish()
    finally:
        sys.settrace(previous)
    return work


def test_a_stream_of_any_size_is_released_as_it_comes():
    """Nothing but the beginning of a marker, an escape or spaces is held back."""
    generator = random.Random(0)
    for case in (Case("", "", [], "hermes", "qwen3"), Case("", "", [], "openai", "openai_gptoss")):
        reader = case.reader()
        for _ in range(300):
            word = generator.choice(["Rome", "e", "über", "1"])
            assert reader.feed(word) == [TextPart(word)]
    reader = Case("", "", [], "hermes").reader()
    reader.feed('<tool_call>{"name": "weather", "arguments": {"city": "')
    for _ in range(100):
        assert len(reader.feed("ab")) == 1
