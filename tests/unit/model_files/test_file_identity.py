"""A model file that was replaced is another file, however well the replacement hides."""

from __future__ import annotations

import os
import shutil

import msgspec
import pytest

from yeoul.errors import ModelFileError
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.file_identity import FileIdentity, are_settled, identify

SECOND = 10**9


def gguf(path):
    return ModelFiles(name="tiny", file_format="gguf", path=str(path))


@pytest.fixture
def path(tmp_path):
    name = tmp_path / "tiny.gguf"
    name.write_bytes(b"first")
    return name


def test_a_file_that_was_not_touched_is_the_same(path):
    assert identify(gguf(path)) == identify(gguf(path))


def test_a_file_written_in_place_is_another_though_its_size_and_time_are_restored(path):
    before, status = identify(gguf(path)), os.stat(path)
    while identify(gguf(path))[0].changed_ns == before[0].changed_ns:
        path.write_bytes(b"other")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = identify(gguf(path))
    assert (after[0].num_bytes, after[0].modified_ns) == (before[0].num_bytes, before[0].modified_ns)
    assert after != before


def test_a_file_that_another_was_renamed_over_is_another_though_all_times_are_alike(path, tmp_path):
    before = identify(gguf(path))
    shutil.copy2(path, tmp_path / "copy")
    os.replace(tmp_path / "copy", path)
    assert identify(gguf(path))[0].inode != before[0].inode


def test_a_link_that_leads_elsewhere_is_another_file(path, tmp_path):
    other = tmp_path / "other.gguf"
    other.write_bytes(b"other")
    link = tmp_path / "link.gguf"
    link.symlink_to(path)
    before = identify(gguf(link))
    assert before == identify(gguf(path))
    link.unlink()
    link.symlink_to(other)
    assert identify(gguf(link)) != before


def test_of_a_folder_the_weights_and_the_shape_count(tmp_path):
    files = ModelFiles(name="tiny", file_format="safetensors", path=str(tmp_path))
    for name in ("config.json", "model-1.safetensors", "model-2.safetensors", "README.md"):
        (tmp_path / name).write_bytes(b"x")
    before = identify(files)
    assert [os.path.basename(file.path) for file in before] == ["config.json", "model-1.safetensors", "model-2.safetensors"]
    (tmp_path / "README.md").write_bytes(b"more")
    assert identify(files) == before
    (tmp_path / "model-2.safetensors").write_bytes(b"more")
    assert identify(files) != before


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"gone\.gguf: No such file"):
        identify(gguf(tmp_path / "gone.gguf"))


def test_a_write_within_the_clocks_tick_would_not_show():
    fine = FileIdentity("/f", 1, 1, 0, 50 * SECOND + 1)
    coarse = msgspec.structs.replace(fine, changed_ns=50 * SECOND)
    assert not are_settled([fine], 50 * SECOND + 2)
    assert are_settled([fine], 51 * SECOND)
    assert not are_settled([coarse], 52 * SECOND)
    assert are_settled([coarse], 54 * SECOND)
    assert not are_settled([fine, coarse], 52 * SECOND)
    assert not are_settled([fine], 40 * SECOND)  # the clock was set back
