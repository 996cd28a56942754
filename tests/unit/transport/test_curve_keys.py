"""The key file of a tcp link."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from yeoul.errors import ConfigError
from yeoul.transport.curve_keys import load_or_create_keys


def test_keys_are_made_once_and_are_their_owners_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "keys")
    keys = load_or_create_keys(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert load_or_create_keys(path) == keys
    assert os.listdir(tmp_path) == ["keys"]
    assert len({keys.server_public, keys.server_secret, keys.client_public, keys.client_secret}) == 4


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    load_or_create_keys(str(path))
    path.chmod(0o640)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
        load_or_create_keys(str(path))


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b'{"server_public": 5}'])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is damaged"):
        load_or_create_keys(str(path))


@pytest.mark.parametrize("secret", ["", "x", "!" * 40, "\u00e9" * 40])
def test_keys_that_do_not_belong_together_are_refused(tmp_path: Path, secret: str) -> None:
    path = tmp_path / "keys"
    keys = msgspec.structs.replace(load_or_create_keys(str(path)), client_secret=secret)
    path.write_bytes(msgspec.json.encode(keys))
    with pytest.raises(ConfigError, match="does not belong to its secret"):
        load_or_create_keys(str(path))


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        load_or_create_keys(str(tmp_path / "missing" / "keys"))
