"""Packed files in a folder that is full, read-only, crowded or littered."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from tests.unit.model_files.packed_samples import FILE, KEY, contents, fill, folder_at, opened, store
from yeoul.errors import ModelFileError
from yeoul.model_files import packed_folder
from yeoul.model_files.packed_file import read_packed_header


def names(path):
    return sorted(os.listdir(path / "packed"))


def test_what_is_stored_is_found_under_its_key(tmp_path):
    folder = folder_at(tmp_path)
    assert folder.open(KEY) is None
    path = store(folder)
    file = folder.open(KEY)
    assert file is not None
    assert read_packed_header(path).key == KEY
    assert names(tmp_path) == [os.path.basename(path)]
    assert os.path.basename(path).startswith("tiny.gguf-")


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "float16"},
        {"rank": 1, "size": 2},
        {"shape": "another"},
        {"packing": "another"},
        {"files": [msgspec.structs.replace(FILE, inode=8)]},
        {"files": [msgspec.structs.replace(FILE, num_bytes=1001)]},
        {"files": [msgspec.structs.replace(FILE, modified_ns=1)]},
        {"files": [msgspec.structs.replace(FILE, changed_ns=1)]},
        {"files": [msgspec.structs.replace(FILE, path="/elsewhere/tiny.gguf")]},
        {"files": [FILE, FILE]},
    ],
)
def test_another_key_finds_nothing(tmp_path, changes):
    folder = folder_at(tmp_path)
    store(folder)
    assert folder.open(msgspec.structs.replace(KEY, **changes)) is None
    assert folder.open(KEY) is not None


def test_a_changed_model_or_layout_takes_the_old_ones_place_and_other_configurations_stay(tmp_path):
    folder = folder_at(tmp_path)
    store(folder)
    newer = msgspec.structs.replace(KEY, packing="newer", files=[msgspec.structs.replace(FILE, changed_ns=9)])
    store(folder, newer)
    assert len(names(tmp_path)) == 1
    assert folder.open(newer) is not None
    store(folder, msgspec.structs.replace(KEY, dtype="float16"))
    store(folder, msgspec.structs.replace(KEY, rank=1, size=2))
    assert len(names(tmp_path)) == 3


def test_a_file_that_is_mapped_while_another_takes_its_place_stays_as_it_was(tmp_path):
    folder = folder_at(tmp_path)
    store(folder, seed=1)
    file = folder.open(KEY)
    assert file is not None
    store(folder, seed=2)
    array = file.weights["matrix"].arrays[0]
    assert array is not None
    assert file.data(array).tobytes() == contents(seed=1)["matrix"].tobytes()


def test_a_damaged_file_is_an_error_and_replaced(tmp_path):
    folder = folder_at(tmp_path)
    os.truncate(store(folder), 5000)
    with pytest.raises(ModelFileError, match="damaged"):
        folder.open(KEY)
    store(folder)
    assert folder.open(KEY) is not None


def test_a_model_of_any_name_has_a_file_in_the_folder(tmp_path):
    folder = folder_at(tmp_path)
    for name in ("../../etc.gguf", "/여울.gguf", "/name/config.json", "", "/.gguf", f"/{'x' * 300}.gguf", "/a\0b\n.gguf"):
        path = folder.path_of(msgspec.structs.replace(KEY, files=[msgspec.structs.replace(FILE, path=name)]))
        assert os.path.dirname(path) == folder.path
        assert len(os.path.basename(path)) < 100
    assert folder.path_of(msgspec.structs.replace(KEY, files=[])).startswith(f"{folder.path}/model-")


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    folder = folder_at(tmp_path)

    def is_full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("yeoul.model_files.packed_file.os.fsync", is_full)
    with pytest.raises(OSError, match="No space left"):
        store(folder)
    assert names(tmp_path) == []


def test_a_disk_that_is_nearly_full_is_not_filled(tmp_path, monkeypatch):
    usage = SimpleNamespace(f_bavail=64 << 8, f_frsize=4096)
    monkeypatch.setattr("yeoul.model_files.packed_file.os.fstatvfs", lambda _: usage)
    with pytest.raises(OSError, match="1 MiB more need free disk space, found 64 MiB"):
        store(folder_at(tmp_path))
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="Not a directory"):
        store(folder_at(tmp_path / "file"))


def test_a_folder_that_cannot_be_written_to_still_gives_what_it_has(tmp_path, monkeypatch):
    folder = folder_at(tmp_path)
    store(folder)

    def is_read_only(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("yeoul.model_files.packed_folder.os.utime", is_read_only)
    assert folder.open(KEY) is not None


def test_what_a_killed_writer_left_is_swept_by_the_next_one(tmp_path):
    folder = folder_at(tmp_path)
    store(folder)
    for name in ("tiny-0123.partial", os.path.basename(folder.path_of(KEY)).replace(".packed", ".x7.partial")):
        (tmp_path / "packed" / name).write_bytes(b"half")
    path = store(folder)
    assert names(tmp_path) == [os.path.basename(path)]


def test_what_another_process_writes_at_the_moment_is_not_swept(tmp_path):
    folder = folder_at(tmp_path)
    other = msgspec.structs.replace(KEY, dtype="float16")
    with folder_at(tmp_path).write("tiny", other) as writer:
        store(folder)
        folder.sweep()
        assert len([name for name in names(tmp_path) if name.endswith(".partial")]) == 1
        fill(writer)
    assert folder.open(other) is not None
    assert not [name for name in names(tmp_path) if name.endswith(".partial")]


def test_two_who_write_the_same_at_once_both_succeed(tmp_path):
    first, second = folder_at(tmp_path), folder_at(tmp_path)
    with first.write("tiny", KEY) as one:
        fill(one)
        with second.write("tiny", KEY) as other:
            fill(other)
        mapped = second.open(KEY)
        assert mapped is not None
    assert len(names(tmp_path)) == 1
    assert first.open(KEY) is not None
    array = mapped.weights["matrix"].arrays[0]
    assert array is not None
    assert mapped.data(array).tobytes() == contents()["matrix"].tobytes()


def test_a_turn_ends_with_whoever_has_it_and_one_that_stands_still_is_waited_for_no_longer(tmp_path, monkeypatch):
    first, second = folder_at(tmp_path), folder_at(tmp_path)
    with first.turn(KEY) as had_to_wait:
        assert not had_to_wait
        with second.turn(msgspec.structs.replace(KEY, rank=1, size=2)) as had_to_wait:
            assert not had_to_wait
        monkeypatch.setattr(packed_folder, "_PATIENCE_SECONDS", 0.0)
        with second.turn(KEY) as had_to_wait:
            assert had_to_wait
        first.sweep()
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == []
    with second.turn(KEY) as had_to_wait:
        assert not had_to_wait


def test_who_packs_for_long_is_waited_for_as_long_as_something_comes_of_it(tmp_path, monkeypatch):
    folder, clock = folder_at(tmp_path), itertools.count()
    monkeypatch.setattr(packed_folder, "_PATIENCE_SECONDS", 2.5)
    with contextlib.ExitStack() as packing:
        packing.enter_context(folder_at(tmp_path).turn(KEY))
        writer, steps = packing.enter_context(folder_at(tmp_path).write("tiny", KEY)), []

        def work_meanwhile(_: float) -> None:
            steps.append(writer.put("uint8", [8192], np.zeros(8192, np.uint8)))
            if len(steps) == 10:
                packing.close()

        monkeypatch.setattr(packed_folder, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=work_meanwhile))
        with folder.turn(KEY) as had_to_wait:
            assert had_to_wait
            assert len(steps) == 10


def test_what_fails_while_it_is_made_leaves_nothing_and_what_was_there_stays(tmp_path):
    folder = folder_at(tmp_path)
    store(folder)

    def fail_half_way():
        with folder.write("tiny", KEY) as writer:
            fill(writer, seed=2)
            raise ModelFileError("half way")

    with pytest.raises(ModelFileError, match="half way"):
        fail_half_way()
    assert len(names(tmp_path)) == 1
    file = folder.open(KEY)
    assert file is not None
    array = file.weights["matrix"].arrays[0]
    assert array is not None
    assert file.data(array).tobytes() == contents(seed=1)["matrix"].tobytes()


def test_the_list_shows_the_last_used_first_and_who_is_in_use(tmp_path):
    folder = folder_at(tmp_path)
    old = store(folder, model="old")
    store(folder, msgspec.structs.replace(KEY, dtype="float16"), model="new")
    os.utime(old, (1000, 1000))
    in_use = opened(old)
    assert [(entry.model, entry.is_in_use) for entry in folder.entries()] == [("new", False), ("old", True)]
    assert folder.open(KEY) is not None  # which is a use
    assert [entry.model for entry in folder.entries()] == ["old", "new"]
    assert in_use.weights


def test_the_list_shows_what_is_damaged_too(tmp_path):
    folder = folder_at(tmp_path)
    os.truncate(store(folder), 20)
    (entry,) = folder.entries()
    assert (entry.model, entry.key, entry.num_bytes) == ("tiny.gguf", None, 20)
    assert folder.remove(entry)
    assert folder.entries() == []


def test_a_folder_that_is_not_there_lists_nothing(tmp_path):
    assert folder_at(tmp_path / "none").entries() == []
    folder_at(tmp_path / "none").sweep()
    assert not (tmp_path / "none").exists()


def test_what_a_server_has_mapped_is_not_removed_until_it_ends(tmp_path):
    folder = folder_at(tmp_path)
    store(folder)
    file = folder.open(KEY)
    assert file is not None
    part = file.data(file.weights["vector"].arrays[0])  # type: ignore[arg-type]
    del file
    (entry,) = folder.entries()
    assert entry.is_in_use
    assert not folder.remove(entry)
    assert part[3] == 3
    del part
    assert folder.remove(entry)
    assert folder.remove(entry)  # gone already
    assert folder.entries() == []


def test_a_pruner_that_hangs_costs_a_server_a_second_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr("yeoul.model_files.packed_file._LOCK_SECONDS", 0.05)
    path = store(folder_at(tmp_path))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="locked by a process that removes it"):
            folder_at(tmp_path).open(KEY)
    finally:
        os.close(descriptor)
