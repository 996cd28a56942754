"""What a GGUF file says about its text side."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.model_files.gguf_bytes import GgufBytes, float_tensor, tiny_model
from yeoul.errors import ModelFileError
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.tokenizer_files import load_tokenizer_source
from yeoul.model_files.tokenizer_gguf import END_OF_ANSWER_TOKENS
from yeoul.model_files.tokenizer_source import GgufVocabulary, SamplingDefaults, TokenizerSource
from yeoul.text.tokenizer import Tokenizer

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
    assert Tokenizer.load(source).encode("b")[0] == 1
    assert source.eos_token_ids == [2, 3]
    assert source.vocabulary is not None
    assert source.vocabulary.scores == [0.0, 0.0, 0.0, 0.0, -1.0, -2.0]


def begins_with_bos(model: GgufBytes, folder) -> bool:
    source = loaded(model, folder)
    return Tokenizer.load(source).encode("a")[:1] == [source.bos_token_id]


# llama.cpp's rule where the file does not say it.
ADD_BOS = {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken"}


@pytest.mark.parametrize("pre", [*sorted(ADD_BOS), "smollm", "qwen2", "gpt-2", "deepseek-llm", "minicpm5", "default"])
def test_whether_a_bos_is_put_in_front_follows_the_pre_tokenizer_unless_the_file_says_it(tmp_path, pre):
    adds = pre in ADD_BOS
    assert begins_with_bos(tiny_model(tokenizer__ggml__pre=pre), tmp_path) is adds
    said = tiny_model(tokenizer__ggml__pre=pre, tokenizer__ggml__add_bos_token=not adds)
    assert begins_with_bos(said, tmp_path) is not adds


def test_a_bos_that_is_asked_for_but_not_named_is_said_in_the_log(tmp_path, caplog):
    model = tiny_model(tokenizer__ggml__add_bos_token=True, tokenizer__ggml__bos_token_id=None)
    assert loaded(model, tmp_path).bos_token_id is None
    assert "asks for a BOS before each prompt but names none" in caplog.text


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


def ends(tmp_path, tokens: list[str], types: list[int] | None = None, **changes: Any) -> list[str]:
    """The tokens that end an answer of a model with ``x`` for its EOS, whether its own tokenizer is used or another."""
    tokens = ["x", "a", *tokens]
    model = tiny_model(
        tokenizer__ggml__tokens=tokens,
        tokenizer__ggml__token_type=None if types is None else [1, 1, *types],
        tokenizer__ggml__merges=["a a"],
        tokenizer__ggml__bos_token_id=None,
        tokenizer__ggml__eos_token_id=0,
        **changes,
    )
    model.tensors = []
    own = loaded(model, tmp_path).eos_token_ids
    (tmp_path / "other").mkdir(exist_ok=True)
    other = tiny_model(tokenizer__ggml__tokens=["x", "a"], tokenizer__ggml__token_type=None, tokenizer__ggml__eos_token_id=0)
    other.metadata = {**other.metadata, "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.merges": ["a a"]}
    assert loaded(model, tmp_path, tokenizer=other.write(tmp_path / "other")).eos_token_ids == own
    return [tokens[token_id] for token_id in own[1:]]


@pytest.mark.parametrize("token", END_OF_ANSWER_TOKENS)
def test_a_token_that_ends_answers_in_other_models_does_so_whatever_type_it_has_but_an_ordinary_one(tmp_path, token, caplog):
    caplog.set_level("INFO")
    for kind in (0, 2, 3, 5, 6) if token == "</s>" else (0, 2, 3, 4, 5, 6):
        assert ends(tmp_path, [token], [kind]) == [token]
    assert ends(tmp_path, [token]) == [token], "and in files that have no types"
    assert not caplog.text
    assert ends(tmp_path, [token], [1]) == []
    assert f"{token!r} is an ordinary token in this file" in caplog.text


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["<|return|>", "<|call|>", "<|end|>"], ["<|return|>", "<|call|>"]),
        (["<|flush|>", "<|calls|>", "<|end|>"], ["<|calls|>", "<|flush|>"]),
        (["<|return|>", "<|end|>"], ["<|end|>", "<|return|>"]),
        (["<|tool_response>", "</s>"], ["<|tool_response>"]),
    ],
)
def test_a_token_between_the_parts_of_an_answer_does_not_end_it(tmp_path, tokens, expected):
    assert ends(tmp_path, tokens, [3] * len(tokens)) == expected


def test_the_tag_of_html_that_gemma_has_as_a_user_defined_token_ends_no_answer(tmp_path):
    assert ends(tmp_path, ["<eos>", "</s>"], [3, 4]) == ["<eos>"]
    assert ends(tmp_path, ["<eos>", "</s>"], [3, 3]) == ["</s>", "<eos>"]


def test_ids_for_code_completion_end_an_answer(tmp_path):
    said = {
        "tokenizer__ggml__fim_pad_token_id": 2,
        "tokenizer__ggml__fim_rep_token_id": 3,
        "tokenizer__ggml__fim_sep_token_id": 4,
    }
    assert ends(tmp_path, ["p", "r", "s"], [3, 3, 3], **said) == ["p", "r", "s"]


def test_a_byte_level_file_without_a_pre_tokenizer_says_so_and_is_cut_by_llama_cpps_rule(tmp_path, caplog):
    source = loaded(tiny_model(tokenizer__ggml__pre=None), tmp_path)
    assert source.vocabulary is not None
    assert source.vocabulary.pre == "default"
    assert "no tokenizer.ggml.pre" in caplog.text
    assert "--tokenizer" in caplog.text
    caplog.clear()
    loaded(tiny_model(), tmp_path)
    loaded(tiny_model(**SENTENCE_PIECE | {"tokenizer__ggml__pre": None}), tmp_path)
    assert not caplog.text


def test_an_id_that_no_token_has_is_passed_over_and_said(tmp_path, caplog):
    source = loaded(tiny_model(tokenizer__ggml__padding_token_id=6, tokenizer__ggml__eos_token_id=7), tmp_path)
    assert (source.padding_token_id, source.eos_token_id, source.eos_token_ids) == (None, None, [2, 0])
    assert "tokenizer.ggml.padding_token_id is 6, but there are 6 tokens" in caplog.text
    assert "tokenizer.ggml.eos_token_id is 7" in caplog.text
    assert loaded(tiny_model(**SENTENCE_PIECE | {"tokenizer__ggml__eos_token_id": 9}), tmp_path).eos_token_id == 2


def test_scores_may_be_whole_numbers(tmp_path):
    source = loaded(tiny_model(**SENTENCE_PIECE | {"tokenizer__ggml__scores": [0, 0, 0, 0, -1, -2]}), tmp_path)
    assert source.vocabulary is not None
    assert source.vocabulary.scores == [0.0, 0.0, 0.0, 0.0, -1.0, -2.0]


def test_an_id_of_minus_one_is_none(tmp_path):
    assert loaded(tiny_model(tokenizer__ggml__bos_token_id=0xFFFFFFFF), tmp_path).bos_token_id is None


def test_the_template_for_tools_and_recommended_sampling_are_read(tmp_path):
    model = tiny_model(general__sampling__temp=0.75, general__sampling__top_k=20, general__sampling__top_p=0.5)
    model.metadata = {**model.metadata, "tokenizer.chat_template.tool_use": "tools"}
    source = loaded(model, tmp_path)
    assert source.tool_chat_template == "tools"
    assert source.sampling_defaults == SamplingDefaults(temperature=0.75, top_k=20, top_p=0.5)


def test_what_the_file_asks_for_and_is_not_done_is_said_in_the_log(tmp_path, caplog):
    loaded(tiny_model(general__sampling__mirostat=0, tokenizer__ggml__remove_extra_whitespaces=False), tmp_path)
    assert not caplog.text
    model = tiny_model(general__sampling__xtc_probability=0.5, tokenizer__ggml__suppress_tokens=[1, 2])
    model.metadata = {**model.metadata, "tokenizer.ggml.remove_extra_whitespaces": True}
    loaded(model, tmp_path)
    assert "general.sampling.xtc_probability=0.5" in caplog.text
    assert "tokenizer.ggml.remove_extra_whitespaces=True, tokenizer.ggml.suppress_tokens=[1, 2]" in caplog.text


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
    assert source.eos_token_ids == [1, 2, 0]
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
