"""Whatever stands in a model's tokenizer files, loading them ends in a tokenizer that works or in a ModelFileError."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_bytes import damaged, little_time
from tests.unit.text.small_tokenizers import (
    byte_level_library,
    byte_level_source,
    sentence_piece_library,
    sentence_piece_source,
)
from yeoul.errors import InvalidRequestError, ModelFileError
from yeoul.model_files.tokenizer_folder import source_from_folder
from yeoul.model_files.tokenizer_source import TokenizerSource
from yeoul.text.tokenizer import Tokenizer

WHOLE = [library().to_str().encode() for library in (byte_level_library, sentence_piece_library)]


def use(source: TokenizerSource) -> None:
    """Loads the tokenizer and does with it what a request does."""
    tokenizer = Tokenizer.load(source)
    for text in ("hello world", "<s> 日本 \U0001f600", ""):
        with contextlib.suppress(InvalidRequestError):
            ids = tokenizer.encode(text)
            assert all(0 <= token_id < 1 << 32 for token_id in ids)
            tokenizer.decode(ids)
    tokenizer.decode([0, 1, 2, 300, (1 << 31) - 1])
    tokenizer.token_id("hello")


def load_folder(tokenizer_json: bytes, **others: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tokenizer.json").write_bytes(tokenizer_json)
        for name, content in others.items():
            (Path(folder) / f"{name}.json").write_bytes(content)
        with contextlib.suppress(ModelFileError):
            use(source_from_folder(folder))


@given(damaged(WHOLE))
@settings(max_examples=150)
@little_time(5)
def test_a_damaged_tokenizer_json_is_refused_or_works(raw):
    load_folder(raw)


JSON = [msgspec.json.encode({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": "x", "eos_token_id": 2})]


@given(damaged(JSON), damaged(JSON), damaged(JSON))
@settings(max_examples=100)
@little_time(5)
def test_damaged_files_beside_it_are_refused_or_read(tokenizer_config, special_tokens_map, generation_config):
    load_folder(
        WHOLE[1],
        tokenizer_config=tokenizer_config,
        special_tokens_map=special_tokens_map,
        generation_config=generation_config,
    )


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1), st.floats(allow_nan=False), st.text(max_size=4)
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=5,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something could be changed; of long lists and tables only the beginning."""
    children = list(node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ())[:12]
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


@pytest.mark.parametrize("which", [0, 1], ids=["byte level", "sentence piece"])
@given(data=st.data())
@settings(max_examples=120)
@little_time(5)
def test_a_tokenizer_json_with_other_values_is_refused_or_works(which, data):
    whole = msgspec.json.decode(WHOLE[which])
    for path in data.draw(st.lists(st.sampled_from(places(whole)[1:]), min_size=1, max_size=2)):
        node = whole
        for key in path[:-1]:
            with contextlib.suppress(KeyError, IndexError, TypeError):
                node = node[key]
        if isinstance(node, dict | list) and (path[-1] in node if isinstance(node, dict) else True):
            with contextlib.suppress(IndexError, TypeError):
                node[path[-1]] = data.draw(values)
    load_folder(msgspec.json.encode(whole))


tokens = st.lists(
    st.one_of(st.text(max_size=3), st.sampled_from(["a", "b", "ab", "▁", "Ġ", "<0x41>", "<unk>", "\0"])), max_size=12
)


@pytest.mark.parametrize("make", [byte_level_source, sentence_piece_source])
@given(data=st.data())
@settings(max_examples=150)
@little_time(5)
def test_gguf_arrays_of_anything_are_refused_or_work(make, data):
    source = make()
    vocabulary = source.vocabulary
    assert vocabulary is not None
    changes: dict[str, Any] = {}
    if data.draw(st.booleans()):
        changes["tokens"] = data.draw(tokens)
        size = len(changes["tokens"])
        changes["scores"] = data.draw(st.lists(st.floats(), min_size=size, max_size=size))
        changes["token_types"] = data.draw(st.lists(st.integers(-1, 8), min_size=size, max_size=size))
    if data.draw(st.booleans()):
        changes["merges"] = data.draw(
            st.lists(st.one_of(st.text(max_size=5), st.sampled_from(["a b", "a", " ", "a b c"])), max_size=6)
        )
    if data.draw(st.booleans()):
        changes["model"] = data.draw(st.sampled_from(["gpt2", "llama", "bert", ""]))
    if data.draw(st.booleans()):
        changes["pre"] = data.draw(st.sampled_from(["default", "llama-bpe", "qwen2", "no-such", ""]))
    ids = {
        name: data.draw(st.one_of(st.none(), st.integers(0, 400)))
        for name in ("bos_token_id", "eos_token_id", "unknown_token_id")
    }
    with contextlib.suppress(ModelFileError):
        use(msgspec.structs.replace(source, vocabulary=msgspec.structs.replace(vocabulary, **changes), **ids))
