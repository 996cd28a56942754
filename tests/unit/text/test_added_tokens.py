"""Tokens that files beside tokenizer.json add: the same ids and the same text as ``transformers`` on the same folder."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from yeoul.errors import ModelFileError
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.tokenizer_files import load_tokenizer_source
from yeoul.text.token_bytes import CHARACTER_OF_BYTE
from yeoul.text.tokenizer import Tokenizer

BYTES = list(CHARACTER_OF_BYTE.values())
TOKENS = ["<|start|>", "<|end|>", "<tool>", "word"]
FLAGS = {"special": False, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
PIECES = [*TOKENS, " ", "hi", "x", "\n", "swordfish", "é"]


def write_folder(
    folder: Path,
    listed: dict[str, dict[str, bool]],
    config: dict[str, object],
    *,
    in_vocabulary: bool = True,
    **files: object,
) -> None:
    """``listed`` are the tokens that tokenizer.json adds, with the flags that it gives them."""
    ids = {token: 256 + index for index, token in enumerate(TOKENS)}
    vocabulary = {character: byte for byte, character in enumerate(BYTES)} | (ids if in_vocabulary else {})
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": ids[token], "content": token, **flags} for token, flags in listed.items()],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    named = {"tokenizer": tokenizer, "tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast", **config}, **files}
    for name, content in named.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def ours(folder: Path) -> Tokenizer:
    return Tokenizer.load(load_tokenizer_source(ModelFiles(name="x", file_format="safetensors", path=str(folder)), None))


def same_as_transformers(folder: Path, texts: list[str]) -> Tokenizer:
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer = ours(folder)
    for text in texts:
        ids = theirs.encode(text, add_special_tokens=False)
        assert tokenizer.encode(text, add_special_tokens=False) == ids
        for skips in (True, False):
            assert tokenizer.decode(ids, skip_special_tokens=skips) == theirs.decode(ids, skip_special_tokens=skips)
    return tokenizer


flags = st.fixed_dictionaries({name: st.booleans() for name in FLAGS})
texts = st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), min_size=1, max_size=5)


four = st.lists(flags, min_size=4, max_size=4)


@given(st.integers(0, 4), four, st.none() | four, st.booleans(), texts)
@settings(max_examples=80)
def test_tokens_of_tokenizer_config_are_found_as_transformers_finds_them(
    num, listed_flags, other_flags, in_vocabulary, texts
):
    declared_flags = other_flags or listed_flags
    declared = {256 + index: {"content": token, **declared_flags[index]} for index, token in enumerate(TOKENS)}
    listed = {token: listed_flags[index] for index, token in enumerate(TOKENS[:num])}
    with tempfile.TemporaryDirectory() as path:
        write_folder(Path(path), listed, {"added_tokens_decoder": declared}, in_vocabulary=in_vocabulary)
        same_as_transformers(Path(path), texts)


def test_tokens_of_older_folders_are_special_where_they_are_named(tmp_path):
    older = {token: 256 + index for index, token in enumerate(TOKENS)}
    write_folder(tmp_path, {}, {"eos_token": "<|end|>"}, in_vocabulary=False, added_tokens=older)
    tokenizer = same_as_transformers(tmp_path, ["<|start|>hi<|end|>", "a <tool> word swords"])
    assert tokenizer.encode("<|start|><|end|>") == [256, 257]
    assert tokenizer.special_token_ids == {257}
    assert tokenizer.eos_token_ids == [257]


def test_a_token_that_only_the_config_calls_special_is_left_out_of_answers(tmp_path):
    listed = dict.fromkeys(TOKENS, FLAGS)
    write_folder(tmp_path, listed, {"added_tokens_decoder": {257: {"content": "<|end|>", **FLAGS, "special": True}}})
    tokenizer = ours(tmp_path)
    assert tokenizer.decode([256, 257]) == "<|start|>"
    assert tokenizer.decode([256, 257], skip_special_tokens=False) == "<|start|><|end|>"


def test_thousands_of_added_tokens_are_read_in_a_moment(tmp_path):
    declared = {256 + index: {"content": f"<unused{index}>", **FLAGS} for index in range(6000)}
    write_folder(tmp_path, {}, {"added_tokens_decoder": declared}, in_vocabulary=False)
    start = time.process_time()
    assert ours(tmp_path).encode("<unused5999>") == [256 + 5999]
    assert time.process_time() - start < 3


def test_ids_that_contradict_each_other_are_said_or_refused(tmp_path, caplog):
    write_folder(tmp_path, {}, {"added_tokens_decoder": {258: {"content": "<|end|>"}}})
    assert ours(tmp_path).encode("<|end|>") == [257]
    assert "'<|end|>' is 257 in tokenizer.json and 258 beside it; 257 is taken" in caplog.text
    write_folder(tmp_path, {}, {"added_tokens_decoder": {300: {"content": "<new>"}}})
    with pytest.raises(ModelFileError, match="adds the token '<new>' with the id 300, but"):
        ours(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"added_tokens_decoder": {"x": {"content": "a"}}}},
        {"tokenizer_config": {"added_tokens_decoder": {"1": "a"}}},
        {"tokenizer_config": {"added_tokens_decoder": {"1": {"content": 7}}}},
        {"tokenizer_config": {"added_tokens_decoder": []}},
        {"added_tokens": {"a": "b"}},
        {"added_tokens": {"a": -1}},
    ],
)
def test_what_is_no_token_is_refused(tmp_path, files):
    write_folder(tmp_path, {}, {}, **files)
    with pytest.raises(ModelFileError, match="expected"):
        ours(tmp_path)
