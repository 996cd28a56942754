# ruff: noqa: RUF001
"""Where each pre-tokenizer cuts."""

from __future__ import annotations

import pytest
from tokenizers import pre_tokenizers

from yeoul.errors import ModelFileError
from yeoul.text.pre_tokenizers import find_pre_tokenizer

TEXT = "I'm HERE'S the x=12345!!\n\n  done  naïveWord/\n"

EXPECTED = {
    "gpt-2": ["I", "'m", " HERE", "'", "S", " the", " x", "=", "12345", "!!", "\n\n ", " done", " ", " naïveWord", "/", "\n"],
    "smollm": [
        "I", "'m", " HERE", "'", "S", " the", " x", "=", "1", "2", "3", "4", "5",
        "!!", "\n\n ", " done", " ", " naïveWord", "/", "\n",
    ],
    "llama-bpe": [
        "I", "'m", " HERE", "'S", " the", " x", "=", "123", "45", "!!\n\n", " ", " done", " ", " naïveWord", "/\n",
    ],
    "qwen2": [
        "I", "'m", " HERE", "'S", " the", " x", "=", "1", "2", "3", "4", "5",
        "!!\n\n", " ", " done", " ", " naïveWord", "/\n",
    ],
    "tekken": [
        "I", "'m", " HERE", "'S", " the", " x", "=", "1", "2", "3", "4", "5",
        "!!\n\n", " ", " done", " ", " naïve", "Word", "/\n",
    ],
    "gpt-4o": [
        "I'm", " HERE'S", " the", " x", "=", "123", "45", "!!\n\n", " ", " done", " ", " naïve", "Word", "/\n",
    ],
    "seed-coder": [
        "I", "'m", " HERE", "'S", " the", " x", "=", "1", "2", "3", "4", "5",
        "!!", "\n\n", " ", " done", " ", " naïveWord", "/", "\n",
    ],
    "minicpm5": [
        "I", "'m", " HERE", "'S", " the", " x", "=", "123", "45", "!!\n\n", " ", " done", " ", " naïveWord", "/\n",
    ],
    "ufakzeka": [
        "I", "'m", " HERE", "'S", " the", " x", "=", "1", "2", "3", "4", "5",
        "!!\n\n", " ", " done", " ", " naïveWord", "/\n",
    ],
    "deepseek-llm": [
        "I", "'", "m", " HERE", "'", "S", " the", " x", "=", "12345",
        "!!", "\n", "\n", " ", " done", " ", " na", "ï", "veWord", "/", "\n",
    ],
    "deepseek-coder": [
        "I", "'", "m", " HERE", "'", "S", " the", " x", "=", "1", "2", "3", "4", "5",
        "!!", "\n", "\n", " ", " done", " ", " naïveWord", "/", "\n",
    ],
    "deepseek-v3": [
        "I", "'m", " HERE", "'S", " the", " x", "=", "123", "45", "!!\n\n", " ", " done", " ", " naïveWord", "/\n",
    ],
    "superbpe": ["I'm HERE'S the x=", "12", "345", "!!\n\n  done  naïveWord/\n"],
    "viking": ["I'm", " HERE'S", " the", " x=", "1", "2", "3", "4", "5", "!!\n\n ", " done", " ", " naïveWord/", "\n"],
    "default": [
        "I", "'", "m", " HERE", "'", "S", " the", " x", "=", "123", "45", "!!", "\n\n ", " done", " ",
        " naïveWord", "/", "\n",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_words_are_cut_as_the_model_was_trained(name):
    cut = find_pre_tokenizer(name).build().pre_tokenize_str(TEXT)
    words = [TEXT[start:end] for _, (start, end) in cut]
    assert words == EXPECTED[name]


# A list of every kind of character that some rule cuts at.
HARD_TEXT = (
    "x=[12345]; $y, 2024-06-01 中文字한국어 かな ½²Ⅷ ١٢٣ cafe\u0301 naïve \u00a0\u3000 a\tb\r\n\r\n  'Tis"
    " DON'T~`|<=>+^ “q”… 👍🏽\n"
)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_no_character_is_lost_where_words_are_cut(name):
    cut = find_pre_tokenizer(name).build().pre_tokenize_str(HARD_TEXT)
    borders = [place for _, place in cut]
    assert "".join(HARD_TEXT[start:end] for start, end in borders) == HARD_TEXT
    assert all(start < end for start, end in borders)


@pytest.mark.parametrize(("name", "digits"), [("gpt-2", False), ("smollm", True)])
def test_gpt_2s_rule_cuts_as_the_librarys_own(name, digits):
    cuts = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    own = pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    assert find_pre_tokenizer(name).build().pre_tokenize_str(HARD_TEXT) == own.pre_tokenize_str(HARD_TEXT)


def test_deepseeks_words_are_of_one_script_each():
    text = "Grüße Ωμέγα Привет 中文한국 １２"
    for name, words in (
        # Its range of punctuation from colon to tilde has the ASCII letters in it.
        ("deepseek-llm", ["Gr", "üß", "e", " Ωμέγα", " Привет", " ", "中文한국", " ", "１２"]),
        ("deepseek-coder", ["Grüße", " Ωμέγα", " Привет", " ", "中文한국", " ", "１", "２"]),
        ("deepseek-v3", ["Grüße", " Ωμέγα", " Привет", " ", "中文", "한국", " ", "１２"]),
    ):
        assert [text[start:end] for _, (start, end) in find_pre_tokenizer(name).build().pre_tokenize_str(text)] == words


def test_qwen_composes_characters_and_marks_stay_with_letters_in_its_later_version():
    normalizer = find_pre_tokenizer("qwen2").normalizer()
    assert normalizer is not None
    assert normalizer.normalize_str("e\u0301") == "\u00e9"
    words = find_pre_tokenizer("qwen35").build().pre_tokenize_str("ह\u093f")
    assert len(words) == 1
    assert find_pre_tokenizer("smollm").normalizer() is None


def test_an_unknown_name_is_an_error_that_names_the_known_ones():
    with pytest.raises(ModelFileError, match=r"'klingon'; known are .*llama-bpe.*--tokenizer"):
        find_pre_tokenizer("klingon")
