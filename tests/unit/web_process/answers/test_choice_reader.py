"""However the deltas of a choice are cut, its reader counts the same tokens of reasoning."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.text.small_tokenizers import byte_level_source
from yeoul.text.answers.answer_reader import AnswerReader
from yeoul.text.answers.families import reasoning_family
from yeoul.text.tokenizer import Tokenizer
from yeoul.web_process.answers.choice_reader import ChoiceReader
from yeoul.web_process.engine.generation_output import GenerationOutput

TOKENIZER = Tokenizer.load(byte_level_source())
THOUGHTS = {"none": "", "short": "hello world", "long": "hello world " * 2000 + "12", "without spaces": "hello" * 3000}


def count(text: str, num_tokens: int, cuts: list[int]) -> int:
    """What is counted where the text comes in pieces, each with as many tokens as it has characters."""
    reader = ChoiceReader(AnswerReader(None, reasoning_family("qwen3")), TOKENIZER)
    borders = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(text)), len(text)]
    for begin, end in itertools.pairwise(borders):
        reader.parts(
            GenerationOutput(
                request_id="r",
                prompt_index=0,
                choice_index=0,
                seed=0,
                num_prompt_tokens=1,
                text=text[begin:end],
                token_ids=[0] * (end - begin),
                num_output_tokens=num_tokens,
                finish_reason="stop" if end == len(text) else None,
            )
        )
    return reader.num_reasoning_tokens


@given(st.sampled_from(list(THOUGHTS)), st.lists(st.integers(1, 30_000), max_size=6))
def test_reasoning_has_as_many_tokens_however_it_comes(name, cuts):
    text = f"<think>\n{THOUGHTS[name]}\n</think>\n\nFine."
    assert count(text, 30_000, cuts) == count(text, 30_000, [])


@pytest.mark.parametrize("name", ["none", "short", "long"])
def test_they_are_the_tokens_of_the_text(name):
    text = f"<think>{THOUGHTS[name]}</think>Fine."
    expected = len(TOKENIZER.encode(THOUGHTS[name], add_special_tokens=False))
    assert count(text, 30_000, []) == count(text, 30_000, list(range(0, 30_000, 3))) == expected


def test_an_answer_has_no_more_of_them_than_tokens():
    assert count("<think>hello 日本", 2, []) == 2
