"""The tokens that frame a gap: found by their texts or by a file's ids, and in each family's order."""

from __future__ import annotations

import pytest

from yeoul.errors import InvalidRequestError
from yeoul.model_files.tokenizer_source import fake_tokenizer_source
from yeoul.text.fill_in import FillMarkers
from yeoul.text.tokenizer import Tokenizer

FAMILIES = {
    "Qwen": ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    "StarCoder": ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    "DeepSeek": ("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),
    "CodeLlama": ("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_text_before_the_gap_comes_first_and_the_answer_begins_behind_the_last_marker(family):
    ids = dict(zip(FAMILIES[family], (100, 101, 102), strict=True))
    markers = FillMarkers.find(ids.get, {})
    assert markers is not None
    assert markers.frame([1, 2], [3]) == [100, 1, 2, 101, 3, 102]


def test_codestral_is_told_first_what_comes_behind_the_gap():
    markers = FillMarkers.find({"[PREFIX]": 7, "[SUFFIX]": 8}.get, {})
    assert markers is not None
    assert markers.frame([1], [2]) == [8, 2, 7, 1]


def test_the_ids_that_a_file_names_go_before_texts_and_what_ends_a_gap_is_known():
    ids = dict(zip(FAMILIES["Qwen"], (100, 101, 102), strict=True)) | {"<|fim_pad|>": 103}
    named = {"prefix": 1, "suffix": 2, "middle": 3}
    assert FillMarkers.find(ids.get, named) == (1, 2, 3, [103])
    assert FillMarkers.find(ids.get, {"prefix": 1}) == (100, 101, 102, [103])


def test_a_vocabulary_that_lacks_a_marker_fills_no_gaps():
    assert FillMarkers.find({"<fim_prefix>": 1, "<fim_suffix>": 2}.get, {}) is None


def test_a_model_without_markers_says_so():
    with pytest.raises(InvalidRequestError, match="leave suffix out"):
        Tokenizer.load(fake_tokenizer_source()).encode_gap("a", "b")


def test_a_gap_is_framed_behind_what_every_prompt_begins_with():
    source = fake_tokenizer_source()
    vocabulary = Tokenizer.load(source)._vocabulary
    named = {"prefix": 300, "suffix": 301, "middle": 302}
    tokenizer = Tokenizer(vocabulary, bos_token_id=source.bos_token_id, eos_token_ids=[], fill_in_token_ids=named)
    assert tokenizer.encode_gap("a", "b") == [256, 300, ord("a"), 301, ord("b"), 302]
    assert tokenizer.encode_gap([5], "") == [256, 300, 5, 301, 302]
