"""The tokens that frame a gap: found by their texts or by a file's ids, and in each family's order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.errors import InvalidRequestError
from yeoul.model_files.tokenizer_source import fake_tokenizer_source
from yeoul.text.fill_in import File, FillMarkers
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
    assert FillMarkers.find(ids.get, named) == (1, 2, 3, [103], None, None)
    assert FillMarkers.find(ids.get, {"prefix": 1}) == (100, 101, 102, [103], None, None)


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


def encode(text: str) -> list[int]:
    return list(text.encode())


FILES = [File("a.h", "int a;"), File("b.h", "int b;")]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (
            {"<|file_sep|>": 500, "<|repo_name|>": 501},
            [501, *b"myproject\n", 500, *b"a.h\nint a;", 500, *b"b.h\nint b;", 500, *b"filename\n"],
        ),
        (
            {"<filename>": 500, "<reponame>": 501},
            [501, *b"myproject\n", 500, *b"a.h\nint a;", 500, *b"b.h\nint b;", 500, *b"filename\n"],
        ),
        ({"<|file_sep|>": 500}, [500, *b"a.h\nint a;", 500, *b"b.h\nint b;", 500, *b"filename\n"]),
        ({}, [*b"\n\n--- snippet ---\n\nint a;\n\n--- snippet ---\n\nint b;"]),
    ],
)
def test_other_files_stand_before_the_gap_as_the_family_writes_a_project(ids, expected):
    markers = FillMarkers.find(({"<fim_prefix>": 1, "<fim_suffix>": 2, "<fim_middle>": 3} | ids).get, {})
    assert markers is not None
    assert markers.beside(FILES, encode) == expected
    assert markers.beside([], encode) == []


def test_a_file_names_the_tokens_of_projects_too():
    named = {"prefix": 1, "suffix": 2, "middle": 3, "file": 4, "project": 5}
    markers = FillMarkers.find({"<|file_sep|>": 500}.get, named)
    assert markers is not None
    assert (markers.file, markers.project) == (4, 5)


@given(
    st.text("ab", max_size=40),
    st.text("cd", max_size=40),
    st.lists(st.text("ef", max_size=9), max_size=4),
    st.integers(4, 99),
)
def test_what_finds_no_room_is_left_out_farthest_from_the_gap_first(before, behind, texts, most):
    source = fake_tokenizer_source()
    named = {"prefix": 300, "suffix": 301, "middle": 302, "file": 303}
    tokenizer = Tokenizer(
        Tokenizer.load(source)._vocabulary, bos_token_id=source.bos_token_id, eos_token_ids=[], fill_in_token_ids=named
    )
    files = [File("f", text) for text in texts]
    all_ids, is_whole = tokenizer.encode_gap_within(before, behind, files, 10_000)
    token_ids, is_cut = tokenizer.encode_gap_within(before, behind, files, most)
    assert not is_whole
    assert is_cut == (len(all_ids) > most)
    assert len(token_ids) == min(len(all_ids), most)
    assert token_ids[0] == 256
    first, last = token_ids.index(300), token_ids.index(301)
    assert bytes(token_ids[first + 1 : last]).decode() == before[len(before) - (last - first - 1) :]
    assert bytes(token_ids[last + 1 : -1]).decode() == behind[: len(token_ids) - last - 2]
    if last - first - 1 < len(before):
        assert first == 1, "of the files nothing is left where the text before the gap is cut"
        assert len(token_ids) - last - 2 >= min(len(behind), (most - 4) // 4)
    if not files:
        assert all_ids == tokenizer.encode_gap(before, behind)
