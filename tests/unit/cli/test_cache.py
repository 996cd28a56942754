"""``yeoul cache`` shows what is there and removes what it is told to, but never what is in use."""

from __future__ import annotations

import os
import time

import msgspec
import pytest

from tests.unit.model_files.packed_samples import FILE, KEY, folder_at, store
from yeoul.cli.cache import age
from yeoul.cli.main import run
from yeoul.model_files.packed_file import PackedFile

DAY = 86400


@pytest.fixture
def folder(tmp_path):
    """An old file of one model, and a new one of another that two ranks share."""
    made = folder_at(tmp_path)
    old = store(made, model="old")
    os.utime(old, (time.time() - 9 * DAY, time.time() - 9 * DAY))
    other = msgspec.structs.replace(FILE, path="/models/new.gguf")
    store(made, msgspec.structs.replace(KEY, files=[other], rank=1, size=2), model="new")
    return made


@pytest.fixture
def yeoul(tmp_path, capsys):
    def call(*arguments):
        code = run(["cache", *arguments, "--download-dir", str(tmp_path)])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return call


def models(folder):
    return [entry.model for entry in folder.entries()]


def test_the_list_is_a_table(folder, yeoul):
    code, out, _ = yeoul("list")
    assert code == 0
    assert out[0].split() == ["model", "configuration", "size", "last", "used"]
    assert out[1].split() == ["new", "bfloat16,", "rank", "1", "of", "2", "1.1", "MB", "just", "now"]
    assert out[2].split() == ["old", "bfloat16", "1.1", "MB", "9", "days", "ago"]
    assert out[3] == f"2.1 MB in {folder.path}"


def test_the_list_shows_what_is_in_use_and_what_is_damaged(folder, yeoul):
    new, old = folder.entries()
    file = PackedFile.open(new.path, new.key)
    os.truncate(old.path, 10)
    text = " ".join(" ".join(yeoul("list")[1]).split())
    assert "in use" in text
    assert "old" not in text
    assert "tiny.gguf damaged, or of another version 0.0 MB" in text
    assert file is not None


def test_an_empty_cache_says_so(tmp_path, yeoul):
    assert yeoul("list") == (0, [f"no packed weights in {tmp_path}/packed"], [])
    assert yeoul("prune", "--all")[:2] == (0, ["freed 0.0 MB"])


def test_prune_by_age(folder, yeoul):
    code, out, _ = yeoul("prune", "--older-than-days", "7")
    assert (code, out) == (0, ["removed old, bfloat16", "freed 1.1 MB"])
    assert models(folder) == ["new"]


def test_prune_a_model(folder, yeoul):
    assert yeoul("prune", "new")[0] == 0
    assert models(folder) == ["old"]


def test_prune_a_model_by_age_removes_what_is_both(folder, yeoul):
    assert yeoul("prune", "new", "--older-than-days", "7")[1] == ["freed 0.0 MB"]
    assert models(folder) == ["new", "old"]


def test_prune_everything_but_what_is_in_use(folder, yeoul):
    entry = folder.entries()[0]
    file = PackedFile.open(entry.path, entry.key)
    code, out, _ = yeoul("prune", "--all")
    assert code == 0
    assert out == ["kept new, bfloat16, rank 1 of 2: a running server uses it", "removed old, bfloat16", "freed 1.1 MB"]
    assert models(folder) == ["new"]
    assert file is not None


def test_prune_sweeps_what_a_killed_writer_left(folder, yeoul):
    leftover = os.path.join(folder.path, "killed-0123.partial")
    open(leftover, "wb").close()
    yeoul("prune", "--older-than-days", "100")
    assert not os.path.exists(leftover)
    assert models(folder) == ["new", "old"]


@pytest.mark.parametrize("arguments", [[], ["new", "--all"], ["--older-than-days", "1", "--all"]])
def test_prune_wants_to_be_told_what(folder, yeoul, arguments):
    code, _, err = yeoul("prune", *arguments)
    assert code == 2
    assert err == ["yeoul: say what to remove: a model, --older-than-days DAYS, both, or --all alone"]
    assert models(folder) == ["new", "old"]


def test_a_model_that_is_not_there_is_an_error(folder, yeoul):
    code, _, err = yeoul("prune", "nonsense")
    assert code == 2
    assert err == [f"yeoul: there are no packed weights of 'nonsense' in {folder.path}; see yeoul cache list"]


def test_without_a_command_there_is_help(capsys):
    assert run(["cache"]) == 0
    assert "prune" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(5, "just now"), (61, "1 minute ago"), (7300, "2 hours ago"), (DAY, "1 day ago"), (40 * DAY, "40 days ago")],
)
def test_ages_are_in_the_unit_that_a_reader_would_take(seconds, shown):
    assert age(seconds) == shown
