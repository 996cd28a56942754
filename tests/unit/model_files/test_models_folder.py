"""Which models a folder has, and under which names; what was fetched by halves is none."""

from __future__ import annotations

import pytest

from tests.unit.model_files.gguf_bytes import tiny_model
from yeoul.config.settings import ModelSettings
from yeoul.errors import ConfigError
from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.local_models import find_models
from yeoul.model_files.models_folder import models_cached, models_in, why_unusable


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_files_folders_and_parts_are_models_and_what_lies_beside_them_is_none(tmp_path):
    touch(tmp_path, "one-Q4_K_M.gguf", "mmproj-one.gguf", "notes.txt", ".hidden/config.json", "empty/readme.md")
    touch(tmp_path, *(f"large-0000{part}-of-00002.gguf" for part in (1, 2)))
    touch(tmp_path, "gemma/gemma-Q8_0.gguf", "gemma/mmproj-F16.gguf", "qwen/config.json", "qwen/model.safetensors")
    touch(tmp_path, *(f"parts/parts-Q8_0-0000{part}-of-00002.gguf" for part in (1, 2)), "two/a.gguf", "two/b.gguf")
    assert models_in(str(tmp_path)) == {
        "large": str(tmp_path / "large-00001-of-00002.gguf"),
        "one-Q4_K_M": str(tmp_path / "one-Q4_K_M.gguf"),
        "gemma": str(tmp_path / "gemma"),
        "parts": str(tmp_path / "parts"),
        "qwen": str(tmp_path / "qwen"),
        "two/a": str(tmp_path / "two" / "a.gguf"),
        "two/b": str(tmp_path / "two" / "b.gguf"),
    }


def test_a_folder_that_is_none_or_has_none_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        models_in(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="holds no model"):
        models_in(str(tmp_path))


def test_a_file_and_a_folder_of_one_name_are_told(tmp_path):
    touch(tmp_path, "a.gguf", "a/b.gguf")
    with pytest.raises(ConfigError, match=r"two models are called 'a' in --models-dir .*: a\.gguf and the folder a"):
        models_in(str(tmp_path))
    touch(tmp_path, "a/c.gguf")  # which have names of their own then
    assert sorted(models_in(str(tmp_path))) == ["a", "a/b", "a/c"]


def test_what_can_be_no_model_of_ours_is_told_and_what_can_is_not(tmp_path):
    (tmp_path / "half.gguf").write_bytes(b"\0" * 64)
    (tmp_path / "cut.gguf").write_bytes(tiny_model().build()[:200])
    (tmp_path / "whole.gguf").write_bytes(tiny_model().build())
    (tmp_path / "whisper").mkdir()
    (tmp_path / "whisper" / "config.json").write_text('{"architectures": ["WhisperForConditionalGeneration"]}')
    whys = {name: why_unusable(ModelSettings(model=path)) for name, path in models_in(str(tmp_path)).items()}
    assert whys.pop("whole") is None
    assert "is not a GGUF file" in str(whys["half"])
    assert "unknown architecture WhisperForConditionalGeneration" in str(whys["whisper"])
    assert all(whys.values())


def test_of_what_was_fetched_whole_models_are_served(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    settings = ModelSettings(download_dir=str(tmp_path))
    assert models_cached(settings) == {}
    touch(tmp_path, "models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf")  # whose hash nobody has seen
    assert [one.name for one in find_models(CacheFolder.at(str(tmp_path)), str(tmp_path))] == ["smollm2-135m-instruct"]
    assert models_cached(settings) == {}
