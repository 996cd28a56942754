"""A library that is not there, or not of these sources, is a sentence that says what to do."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import pytest

import yeoul.transport
from yeoul.errors import MachineError
from yeoul.kernels import native_library
from yeoul.transport import ring_library


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the library is looked for."""
    monkeypatch.setattr(yeoul.transport, "__path__", [str(tmp_path)])
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path / "nowhere"))
    return tmp_path


def test_a_library_of_other_sources_is_told_with_what_it_lacks(folder):
    kernels = Path(native_library._library()._name)
    shutil.copy(kernels, folder / "libyeoul_ring.so")
    with pytest.raises(MachineError, match=r"of another version of Yeoul \(.*ring_num_bytes\): run `make install`"):
        ring_library.ring_library.__wrapped__()


def test_a_library_that_was_not_built_or_cannot_be_loaded_is_told(folder):
    with pytest.raises(MachineError, match=r"is not built.*make install"):
        ring_library.ring_library.__wrapped__()
    (folder / "libyeoul_ring.so").write_bytes(b"no library")
    with pytest.raises(MachineError, match="install Yeoul again"):
        ring_library.ring_library.__wrapped__()


def test_kernels_of_other_sources_are_told_with_what_they_lack():
    with pytest.raises(MachineError, match=r"another version of Yeoul \(.*of_tomorrow.*\): run `make install`"):
        native_library.NativeFunction("of_tomorrow")()
    with pytest.raises(MachineError, match=r"another version of Yeoul \(.*of_tomorrow.*\): run `make install`"):
        native_library.symbol_address("of_tomorrow")
