"""What people are told of a model's files, from both kinds of them."""

from __future__ import annotations

from pathlib import Path

from tests.unit.model_files.gguf_bytes import tiny_model
from tests.unit.model_files.safetensors_bytes import write_weights
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.model_facts import find_facts


def test_a_gguf_file(tmp_path: Path):
    path = tiny_model().write(tmp_path)
    facts = find_facts(ModelFiles(name="tiny", file_format="gguf", path=path))
    assert facts.weights_type == "F32"
    assert facts.num_bytes == 4 * facts.num_parameters > 0
    assert facts.modified_at == Path(path).stat().st_mtime


def test_a_folder_of_several_files(tmp_path: Path):
    write_weights(tmp_path, {"a": (2, 3)}, {"b": (4,)})
    facts = find_facts(ModelFiles(name="tiny", file_format="safetensors", path=str(tmp_path)))
    assert facts.num_parameters == 10
    assert facts.modified_at == max(path.stat().st_mtime for path in tmp_path.glob("*.safetensors"))


def test_the_fake_model_has_no_files():
    assert find_facts(ModelFiles(name="fake", file_format="fake", path="")).num_bytes == 0
