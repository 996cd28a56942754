"""Marks of thoughts as tokens: only where no other tokens could have the same text."""

from __future__ import annotations

import re
from typing import Any

import pytest

from yeoul.model_files.tokenizer_source import fake_tokenizer_source
from yeoul.text.answers.families import tool_family
from yeoul.text.answers.reasoning import REASONING_FAMILIES
from yeoul.text.tokenizer import Tokenizer
from yeoul.web_process.engine.thinking_marks import find_thinking_marks

QWEN = next(family for family in REASONING_FAMILIES if family.name == "qwen3")


def test_where_every_token_is_a_byte_a_mark_is_its_bytes():
    marks = find_thinking_marks(Tokenizer.load(fake_tokenizer_source()), QWEN, tool_family("hermes"))
    assert marks is not None
    assert bytes(marks.begin) == b"<think>"
    assert [bytes(end) for end in marks.ends] == [b"</think>", b"<tool_call>"]
    assert marks.budget(5, is_open=True).num_tokens == 5


class Pieces:
    """A tokenizer that takes the first of these pieces that fits, or else a character."""

    def __init__(self, *pieces: str) -> None:
        self._pattern = re.compile("|".join([*map(re.escape, pieces), "."]), re.DOTALL)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [
            sum(ord(character) << 20 * index for index, character in enumerate(piece))
            for piece in self._pattern.findall(text)
        ]


@pytest.mark.parametrize(
    ("pieces", "num_tokens"),
    [(["<think>", "</think>", "<tool_call>"], 1), ([">\n", "<think>", "</think>", "<tool_call>"], 1), ([], 8)],
)
def test_marks_that_are_tokens_are_found(pieces, num_tokens):
    tokenizer: Any = Pieces(*pieces)
    marks = find_thinking_marks(tokenizer, QWEN, tool_family("hermes"))
    assert marks is not None
    assert len(marks.ends[0]) == num_tokens


@pytest.mark.parametrize("pieces", [[".<", "think"], [">\n"], ["a<", "/think", ">"], ["<think>", "</think>", "{<", ">{"]])
def test_where_a_neighbour_takes_a_piece_of_a_mark_there_is_none(pieces):
    tokenizer: Any = Pieces(*pieces)
    assert find_thinking_marks(tokenizer, QWEN, tool_family("hermes")) is None


def test_a_model_without_thoughts_has_no_marks():
    assert find_thinking_marks(Tokenizer.load(fake_tokenizer_source()), None, None) is None
