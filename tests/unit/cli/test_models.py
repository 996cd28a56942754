"""``yeoul list`` shows what was fetched, and ``yeoul rm`` takes away what it is told to and nothing else."""

from __future__ import annotations

import os
import time

import msgspec
import pytest

from tests.unit.model_files.packed_samples import KEY, folder_at, store
from yeoul.cli.main import run
from yeoul.model_files.registry_models import DEFAULT_MODEL, REGISTRY_MODELS

HUB_MODELS = {"org/tuned": "model.safetensors", "org/packed-GGUF": "packed.Q4_0.gguf", "org/tokenizer-only": "tokenizer.json"}


@pytest.fixture
def cache(tmp_path):
    """One model of the registry, used nine days ago, and three repositories of the hub, one of them without weights."""
    model = REGISTRY_MODELS[DEFAULT_MODEL]
    path = tmp_path / "models" / model.name / model.file_name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 2_000_000)
    old = time.time() - 9 * 86400
    os.utime(path, (old, old))
    for name, file_name in HUB_MODELS.items():
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        for folder in ("blobs", "refs", "snapshots/abc"):
            (repository / folder).mkdir(parents=True)
        (repository / "blobs" / "1").write_bytes(b"x" * 3_000_000)
        (repository / "refs" / "main").write_text("abc")
        (repository / "snapshots" / "abc" / file_name).symlink_to("../../blobs/1")
    return tmp_path


@pytest.fixture
def yeoul(cache, capsys):
    def call(command, *arguments):
        code = run([command, *arguments, "--download-dir", str(cache)])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err

    return call


def names(yeoul):
    return [line.split()[0] for line in yeoul("list")[1][1:]]


def test_the_list_has_what_can_be_served_with_its_size_the_last_used_first(yeoul):
    code, out, _ = yeoul("list")
    assert code == 0
    assert out[0].split() == ["model", "size", "last", "used"]
    assert sorted(line.split()[0] for line in out[1:3]) == ["org/packed-GGUF", "org/tuned"]
    assert out[3].split() == [DEFAULT_MODEL, "2.0", "MB", "9", "days", "ago"]


def test_a_model_is_removed_with_its_packed_weights_and_the_others_stay(yeoul, cache):
    store(folder_at(cache), model="org/packed-GGUF:Q4_0")
    store(folder_at(cache), msgspec.structs.replace(KEY, rank=1, size=2), model="org/packed")
    assert yeoul("rm", "org/packed-GGUF", DEFAULT_MODEL)[0] == 0
    assert names(yeoul) == ["org/tuned"]
    assert [entry.model for entry in folder_at(cache).entries()] == ["org/packed"]
    assert not (cache / "hub" / "models--org--packed-GGUF").exists()
    assert (cache / "hub" / "models--org--tokenizer-only").exists()


def test_an_unknown_name_removes_nothing_and_names_the_nearest(yeoul):
    code, _, err = yeoul("rm", "org/tuned", "org/tunde")
    assert code == 2
    assert "there is no fetched model 'org/tunde'. Did you mean org/tuned?" in err
    assert len(names(yeoul)) == 3


def test_without_models_the_list_says_how_to_get_one(tmp_path, capsys):
    assert run(["list", "--download-dir", str(tmp_path / "empty")]) == 0
    assert "yeoul pull MODEL fetches one" in capsys.readouterr().out
