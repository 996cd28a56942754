"""The user's folders where there is a home, none, or one that cannot be written to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from yeoul.config.user_folders import chosen_folder, ensure_home, user_cache_folder
from yeoul.errors import ConfigError


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """A user id that no file knows, without HOME; what is temporary goes to ``tmp_path``."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987_654)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    yield tmp_path
    os.environ.pop("HOME", None)


@pytest.mark.parametrize("home", [None, "", "relative", "~"])
def test_who_has_no_home_gets_one_in_the_temporary_folder(homeless, monkeypatch, caplog, home):
    if home is not None:
        monkeypatch.setenv("HOME", home)
    for _ in range(2):  # the second start finds what the first has kept
        if home != "":  # with an empty one ~ is the root
            ensure_home()
            expected = homeless / f"yeoul-home-{os.geteuid()}"
            assert user_cache_folder() == str(expected / ".cache" / "yeoul")
            assert expected.stat().st_mode & 0o777 == 0o700
        assert os.path.isabs(user_cache_folder())
    assert caplog.text.count("no home folder") == (home != "")


@pytest.mark.parametrize("obstacle", ["a link", "open to all", "a file", "no temporary folder"])
def test_a_temporary_home_that_is_not_ours_alone_is_not_used(homeless, monkeypatch, tmp_path_factory, obstacle):
    path = homeless / f"yeoul-home-{os.geteuid()}"
    if obstacle == "a link":
        path.symlink_to(tmp_path_factory.mktemp("elsewhere"))
    elif obstacle == "open to all":
        path.mkdir()
        path.chmod(0o777)
    elif obstacle == "a file":
        path.write_text("")
    else:
        monkeypatch.setattr(tempfile, "gettempdir", lambda: str(homeless / "gone"))
    ensure_home()
    with pytest.raises(OSError, match="Not a directory"):
        os.makedirs(user_cache_folder())


def test_a_home_that_is_there_stays(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    ensure_home()
    assert os.environ["HOME"] == str(tmp_path)
    assert user_cache_folder() == str(tmp_path / ".cache" / "yeoul")
    assert chosen_folder("~/x") == str(tmp_path / "x")
    assert caplog.text == ""


def test_a_folder_of_a_home_that_does_not_exist_is_an_error_and_nothing_in_the_working_folder(homeless):
    for path in ("~/models", "~nobody-has-this-name/models"):
        with pytest.raises(ConfigError, match="home folder that does not exist; set HOME"):
            chosen_folder(path)
    assert chosen_folder("models") == str(Path.cwd() / "models")
