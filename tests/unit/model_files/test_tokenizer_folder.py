"""What the JSON files of a Hugging Face folder say about its text side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.model_files.safetensors_bytes import write_json
from yeoul.errors import ModelFileError
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.tokenizer_files import load_tokenizer_source
from yeoul.model_files.tokenizer_source import SamplingDefaults, TokenizerSource

TOKENIZER = {
    "version": "1.0",
    "added_tokens": [{"id": 0, "content": "<s>", "special": True}, {"id": 1, "content": "</s>", "special": True}],
    "model": {"type": "BPE", "vocab": {"<s>": 0, "</s>": 1, "<unk>": 2, "a": 3}, "merges": []},
}


def write_folder(folder: Path, **files: Any) -> TokenizerSource:
    """The source of a folder with these JSON files (``__`` stands for a dot in a name); a value of None leaves one out."""
    for name, content in ({"tokenizer": TOKENIZER} | files).items():
        if content is not None:
            write_json(folder / f"{name}.json", content)
    return load_tokenizer_source(ModelFiles(name="tiny", file_format="safetensors", path=str(folder)), None)


def refused(folder: Path, **files: Any) -> str:
    with pytest.raises(ModelFileError) as caught:
        write_folder(folder, **files)
    return caught.value.message


def test_a_tokenizer_alone_will_do(tmp_path):
    assert write_folder(tmp_path) == TokenizerSource(
        kind="tokenizer_json", origin=str(tmp_path), tokenizer_json_path=str(tmp_path / "tokenizer.json")
    )


def test_special_tokens_are_found_by_text(tmp_path):
    config = {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>", "lstrip": False},
        "unk_token": "<unk>",
        "add_bos_token": True,
    }
    source = write_folder(tmp_path, tokenizer_config=config)
    assert (source.bos_token, source.bos_token_id) == ("<s>", 0)
    assert (source.eos_token, source.eos_token_id, source.eos_token_ids) == ("</s>", 1, [1])
    assert (source.special_tokens, source.unknown_token_id) == ({"unk_token": "<unk>"}, 2)
    assert source.add_bos_token is True
    assert source.add_eos_token is None


def test_the_special_tokens_map_fills_what_the_config_leaves_out(tmp_path):
    source = write_folder(tmp_path, tokenizer_config={"bos_token": None}, special_tokens_map={"bos_token": "a"})
    assert (source.bos_token, source.bos_token_id) == ("a", 3)


def test_a_unigram_vocabulary_counts_its_tokens(tmp_path):
    unigram = {"model": {"type": "Unigram", "vocab": [["<pad>", 0.0], ["</s>", -1.0]]}}
    source = write_folder(tmp_path, tokenizer=unigram, tokenizer_config={"eos_token": "</s>"})
    assert source.eos_token_ids == [1]


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        ({"generation_config": {"eos_token_id": [3, 1]}, "config": {"eos_token_id": 2}}, [1, 3]),
        ({"generation_config": {"eos_token_id": 2}}, [1, 2]),
        ({"generation_config": {}, "config": {"eos_token_id": 2}}, [1, 2]),
        ({"config": {"text_config": {"eos_token_id": [2, 3]}}}, [1, 2, 3]),
        ({}, [1]),
    ],
)
def test_the_ids_that_end_an_answer_are_merged(tmp_path, files, ids):
    assert write_folder(tmp_path, tokenizer_config={"eos_token": "</s>"}, **files).eos_token_ids == ids


def test_recommended_sampling_is_read(tmp_path):
    generation = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05, "do_sample": True}
    source = write_folder(tmp_path, generation_config=generation)
    assert source.sampling_defaults == SamplingDefaults(temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05)
    greedy = write_folder(tmp_path, generation_config=generation | {"do_sample": False})
    assert greedy.sampling_defaults == SamplingDefaults(repetition_penalty=1.05)


def test_what_the_files_ask_for_and_is_not_done_is_said_in_the_log(tmp_path, caplog):
    quiet = {"num_beams": 1, "no_repeat_ngram_size": 0, "typical_p": 1.0, "suppress_tokens": None, "temperature": 0.5}
    write_folder(tmp_path, generation_config=quiet, tokenizer_config={"clean_up_tokenization_spaces": True})
    assert not caplog.text
    loud = {"no_repeat_ngram_size": 3, "suppress_tokens": [1, 2], "max_new_tokens": 99}
    write_folder(tmp_path, generation_config=quiet | loud, tokenizer_config={"split_special_tokens": True})
    assert "generation_config.json asks for what is not done here: max_new_tokens=99, no_repeat_ngram_size=3" in caplog.text
    assert "suppress_tokens=[1, 2]" in caplog.text
    assert "split_special_tokens=True" in caplog.text


def test_a_template_file_wins_over_the_config_and_this_over_the_old_file(tmp_path):
    assert write_folder(tmp_path, chat_template={"chat_template": "oldest"}).chat_template == "oldest"
    assert write_folder(tmp_path, tokenizer_config={"chat_template": "config"}).chat_template == "config"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert write_folder(tmp_path).chat_template == "file"


def test_a_template_for_tools_is_kept_apart(tmp_path):
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    source = write_folder(tmp_path, tokenizer_config={"chat_template": named})
    assert (source.chat_template, source.tool_chat_template) == ("plain", "tools")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("tools from a file")
    assert write_folder(tmp_path).tool_chat_template == "tools from a file"


def test_another_tokenizer_may_be_a_file_and_the_model_needs_none_of_its_own(tmp_path):
    (tmp_path / "model").mkdir()
    write_json(tmp_path / "model" / "generation_config.json", {"eos_token_id": 3, "temperature": 0.5})
    write_json(tmp_path / "tokenizer.json", TOKENIZER)
    write_json(tmp_path / "tokenizer_config.json", {"eos_token": "</s>"})
    files = ModelFiles(name="tiny", file_format="safetensors", path=str(tmp_path / "model"))
    source = load_tokenizer_source(files, str(tmp_path / "tokenizer.json"))
    assert source.tokenizer_json_path == str(tmp_path / "tokenizer.json")
    assert source.eos_token_ids == [1, 3]
    assert source.sampling_defaults.temperature == 0.5


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer": None}, "has no tokenizer.json; fetch it, or name another"),
        ({"tokenizer": []}, "tokenizer.json is damaged"),
        ({"tokenizer": {"added_tokens": [{"id": "x", "content": "a"}]}}, "tokenizer.json is damaged"),
        ({"tokenizer_config": {"eos_token": 7}}, "expected a token's text in the field 'eos_token', found 7"),
        ({"tokenizer_config": {"chat_template": [{"name": "default"}]}}, "expected a template, or a list of objects"),
        ({"tokenizer_config": {"add_bos_token": "yes"}}, "expected true or false"),
        ({"generation_config": {"eos_token_id": ["a"]}}, "expected a list of int"),
        ({"generation_config": {"eos_token_id": -1}}, "expected a token id"),
        ({"generation_config": {"temperature": "warm"}}, "expected a finite number"),
    ],
)
def test_files_that_cannot_work_are_refused(tmp_path, files, message):
    assert message in refused(tmp_path, **files)


def test_a_template_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe\x00")
    assert "cannot read the chat template" in refused(tmp_path)
    (tmp_path / "chat_template.jinja").write_bytes(b"x" * (2 << 20))
    assert "is it a chat template?" in refused(tmp_path)
