"""What files say of how a model reranks: GGUF, sentence-transformers' folders, a name that is known, and nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.model_files.gguf_bytes import tiny_model
from tests.unit.model_files.safetensors_bytes import write_json
from yeoul.errors import ModelFileError
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.rerank_source import QWEN3_TEMPLATE, RerankSource, find_rerank_source


def gguf(tmp_path: Path, **fields: object) -> RerankSource | None:
    path = tiny_model("llama", **fields).write(tmp_path)
    return find_rerank_source(ModelFiles(name="tiny", file_format="gguf", path=path))


def folder(tmp_path: Path, name: str = "tiny") -> RerankSource | None:
    return find_rerank_source(ModelFiles(name=name, file_format="safetensors", path=str(tmp_path)))


def test_a_gguf_file_names_the_template_and_the_words(tmp_path: Path):
    found = gguf(
        tmp_path,
        tokenizer__chat_template__rerank="{query} {document}",
        arch__classifier__output_labels=["yes", "no"],
    )
    assert found == RerankSource(origin="model.gguf", template="{query} {document}", words=("yes", "no"))


def test_a_template_without_words_or_words_without_a_template_is_no_reranker(tmp_path: Path):
    assert gguf(tmp_path) is None
    assert gguf(tmp_path, arch__classifier__output_labels=["yes", "no"]) is None
    assert gguf(tmp_path, tokenizer__chat_template__rerank="{query}{document}") is None
    three = gguf(tmp_path, tokenizer__chat_template__rerank="{query}", arch__classifier__output_labels=["a", "b", "c"])
    assert three is None


def test_a_folder_of_sentence_transformers_names_the_tokens(tmp_path: Path):
    assert folder(tmp_path) is None
    (tmp_path / "1_LogitScore").mkdir()
    place = tmp_path / "1_LogitScore" / "config.json"
    write_json(place, {"true_token_id": 9693, "false_token_id": 2152})
    assert folder(tmp_path) == RerankSource(origin="1_LogitScore/config.json", token_ids=(9693, 2152))
    write_json(place, {"true_token_id": 9454, "false_token_id": None})
    assert folder(tmp_path) is None
    write_json(place, {"true_token_id": "yes", "false_token_id": 5})
    with pytest.raises(ModelFileError, match="true_token_id"):
        folder(tmp_path)


def test_a_name_that_is_known_is_enough(tmp_path: Path):
    found = folder(tmp_path, "Qwen/Qwen3-Reranker-0.6B")
    assert found is not None
    assert (found.template, found.words) == (QWEN3_TEMPLATE, ("yes", "no"))
    assert find_rerank_source(ModelFiles(name="fake", file_format="fake", path="")) is None
