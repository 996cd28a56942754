"""Where each pre-tokenizer cuts."""

from __future__ import annotations

import pytest

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
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_words_are_cut_as_the_model_was_trained(name):
    cut = find_pre_tokenizer(name).build().pre_tokenize_str(TEXT)
    words = [TEXT[start:end] for _, (start, end) in cut]
    assert words == EXPECTED[name]


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
