"""What a GGUF file says about its text side."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.model_files.gguf_bytes import GgufBytes, float_tensor, tiny_model
from yeoul.errors import ModelFileError
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.tokenizer_files import load_tokenizer_source
from yeoul.model_files.tokenizer_source import GgufVocabulary, SamplingDefaults, TokenizerSource

SENTENCE_PIECE: dict[str, Any] = {
    "tokenizer__ggml__model": "llama",
    "tokenizer__ggml__pre": "default",
    "tokenizer__ggml__tokens": ["<unk>", "<s>", "</s>", "<end_of_turn>", "▁a", "b"],
    "tokenizer__ggml__token_type": [2, 3, 3, 3, 1, 1],
    "tokenizer__ggml__scores": [0.0, 0.0, 0.0, 0.0, -1.0, -2.0],
    "tokenizer__ggml__merges": None,
    "tokenizer__ggml__bos_token_id": None,
    "tokenizer__ggml__eos_token_id": None,
}


def loaded(model: GgufBytes, folder, tokenizer: str | None = None) -> TokenizerSource:
    return load_tokenizer_source(ModelFiles(name="tiny", file_format="gguf", path=model.write(folder)), tokenizer)


def refused(model: GgufBytes, folder) -> str:
    with pytest.raises(ModelFileError) as caught:
        loaded(model, folder)
    return caught.value.message


def test_a_byte_level_vocabulary_is_read(tmp_path):
    model = tiny_model(
        tokenizer__ggml__add_bos_token=False,
        tokenizer__ggml__add_space_prefix=False,
        tokenizer__ggml__unknown_token_id=0,
        tokenizer__ggml__padding_token_id=2,
        tokenizer__chat_template="{{ messages }}",
    )
    assert loaded(model, tmp_path) == TokenizerSource(
        kind="gguf",
        origin=str(tmp_path / "model.gguf"),
        vocabulary=GgufVocabulary(
            model="gpt2",
            pre="smollm",
            tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "ab"],
            token_types=[3, 3, 3, 1, 1, 1],
            merges=["a b"],
            add_space_prefix=False,
        ),
        bos_token_id=1,
        eos_token_id=2,
        unknown_token_id=0,
        padding_token_id=2,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        special_tokens={"unk_token": "<|endoftext|>", "pad_token": "<|im_end|>"},
        eos_token_ids=[2, 0],
        add_bos_token=False,
        add_eos_token=False,
        chat_template="{{ messages }}",
    )


def test_a_sentence_piece_vocabulary_has_the_ids_that_all_have(tmp_path):
    source = loaded(tiny_model(**SENTENCE_PIECE), tmp_path)
    assert (source.unknown_token_id, source.bos_token_id, source.eos_token_id) == (0, 1, 2)
    assert source.add_bos_token is True
    assert source.eos_token_ids == [2, 3]
    assert source.vocabulary is not None
    assert source.vocabulary.scores == [0.0, 0.0, 0.0, 0.0, -1.0, -2.0]


@pytest.mark.parametrize(("pre", "adds"), [("smollm", False), ("llama-bpe", True), ("qwen2", False)])
def test_whether_a_bos_is_put_in_front_follows_the_pre_tokenizer_unless_the_file_says_it(tmp_path, pre, adds):
    assert loaded(tiny_model(tokenizer__ggml__pre=pre), tmp_path).add_bos_token is adds
    said = tiny_model(tokenizer__ggml__pre=pre, tokenizer__ggml__add_bos_token=not adds)
    assert loaded(said, tmp_path).add_bos_token is not adds


def test_every_id_that_ends_an_answer_is_found(tmp_path):
    tokens = ["</s>", "<|eot_id|>", "<|im_end|>", "<|end|>", "x", "y"]
    model = tiny_model(
        tokenizer__ggml__tokens=tokens,
        tokenizer__ggml__token_type=[3, 3, 3, 1, 1, 1],
        tokenizer__ggml__eos_token_id=0,
        tokenizer__ggml__eot_token_id=4,
        tokenizer__ggml__eom_token_id=5,
    )
    # <|end|> is an ordinary token here: a text may contain it.
    assert loaded(model, tmp_path).eos_token_ids == [0, 4, 5, 2, 1]


def test_an_id_of_minus_one_is_none(tmp_path):
    assert loaded(tiny_model(tokenizer__ggml__bos_token_id=0xFFFFFFFF), tmp_path).bos_token_id is None


def test_the_template_for_tools_and_recommended_sampling_are_read(tmp_path):
    model = tiny_model(general__sampling__temp=0.75, general__sampling__top_k=20, general__sampling__top_p=0.5)
    model.metadata = {**model.metadata, "tokenizer.chat_template.tool_use": "tools"}
    source = loaded(model, tmp_path)
    assert source.tool_chat_template == "tools"
    assert source.sampling_defaults == SamplingDefaults(temperature=0.75, top_k=20, top_p=0.5)


def test_another_tokenizer_keeps_what_the_model_says_about_answers(tmp_path):
    (tmp_path / "other").mkdir()
    other = tiny_model(
        tokenizer__ggml__tokens=["a", "b"], tokenizer__ggml__token_type=[1, 1], tokenizer__ggml__eos_token_id=1
    )
    other.metadata = {**other.metadata, "tokenizer.ggml.bos_token_id": 0}
    path = other.write(tmp_path / "other")
    source = loaded(tiny_model(general__sampling__temp=0.5), tmp_path, tokenizer=path)
    assert source.vocabulary is not None
    assert source.vocabulary.tokens == ["a", "b"]
    assert source.eos_token_ids == [1, 2]
    assert source.sampling_defaults.temperature == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer__ggml__model": "bert"}, "expected a tokenizer of kind gpt2 or llama"),
        ({"tokenizer__ggml__model": None}, "'tokenizer.ggml.model', it is missing"),
        ({"tokenizer__ggml__tokens": None}, "expected the list of tokens"),
        ({"tokenizer__ggml__tokens": [1, 2]}, "expected a list of str"),
        ({"tokenizer__ggml__token_type": [1]}, "expected 6 entries in token_type, found 1"),
        ({"tokenizer__ggml__merges": None}, "expected the list of merges"),
        ({"tokenizer__ggml__eos_token_id": 6}, "expected a token id below 6"),
        ({"tokenizer__ggml__bos_token_id": "one"}, "expected a token id"),
        (SENTENCE_PIECE | {"tokenizer__ggml__scores": None}, "expected a score for each token"),
    ],
)
def test_a_vocabulary_that_cannot_work_is_refused(tmp_path, changes, message):
    assert message in refused(tiny_model(**changes), tmp_path)


def test_more_tokens_than_embeddings_are_refused(tmp_path):
    model = tiny_model()
    model.tensors = [float_tensor("token_embd.weight", 5, 8)]
    assert "has 6 tokens, but embeddings for 5 only" in refused(model, tmp_path)


def test_the_fake_model_speaks_bytes():
    source = load_tokenizer_source(ModelFiles(name="fake", file_format="fake", path=""), None)
    assert (source.kind, source.bos_token_id, source.eos_token_ids) == ("bytes", 256, [257])
