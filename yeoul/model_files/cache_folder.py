"""CacheFolder: where fetched models are kept, safely for several processes; knows nothing of networks or formats.

The fetching code calls it. Layout: ``models/<name>/<file>`` with ``<file>.verified`` beside it, ``hub/`` for the hub's client
where the user chose this folder, ``locks/``, and ``partial/`` for what is still being written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator

import msgspec

from yeoul.config.user_folders import chosen_folder, user_cache_folder
from yeoul.errors import ConfigError

FREE_SPACE_RESERVE_BYTES = 64 << 20

Progress = Callable[[str, int, int], None]
"""What is being done, how many bytes of it are done, of how many."""


class _Stamp(msgspec.Struct):
    """A file as it was when its hash was last right."""

    sha256: str
    num_bytes: int
    modified_ns: int


class CacheFolder:
    """The folder ``path``; made when something is first written to it."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def at(cls, download_dir: str | None) -> CacheFolder:
        """The folder that the user chose, or the user's cache folder."""
        return cls(chosen_folder(download_dir) if download_dir else user_cache_folder())

    def model_path(self, name: str, file_name: str) -> str:
        """Where a model's file belongs."""
        return os.path.join(self.path, "models", name, file_name)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Waits until no other process fetches ``name``; the lock ends with this process, however it ends."""
        path = os.path.join(self._make("locks"), f"{name}.lock")
        with _as_config_error(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def partial_folder(self, name: str, num_bytes: int) -> Iterator[str]:
        """A fresh folder on the same disk with room for ``num_bytes``; call it under ``lock(name)``.

        It is removed at the end, and what earlier processes left under this name is removed at the start.
        """
        parent = self._make("partial")
        for leftover in os.listdir(parent):
            if leftover.startswith(f"{name}."):
                shutil.rmtree(os.path.join(parent, leftover), ignore_errors=True)
        free = shutil.disk_usage(parent).free
        if free < num_bytes + FREE_SPACE_RESERVE_BYTES:
            raise ConfigError(
                f"{self.path} needs {num_bytes >> 20} MiB of free disk space for {name}, found {free >> 20} MiB; "
                "free some, or choose another folder with --download-dir"
            )
        with _as_config_error(parent):
            folder = tempfile.mkdtemp(prefix=f"{name}.", dir=parent)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def is_verified(self, path: str, sha256: str) -> bool:
        """Whether the file is the one that once had this hash: looks at its size and time only."""
        try:
            status = os.stat(path)
            with open(_stamp_path(path), "rb") as file:
                stamp = msgspec.json.decode(file.read(), type=_Stamp)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        return stamp == _Stamp(sha256, status.st_size, status.st_mtime_ns)

    def verify(self, path: str, sha256: str) -> bool:
        """Whether the file has this hash: reads it, and leaves a stamp if so, or takes away one that is not true."""
        try:
            found = hash_file(path)
        except OSError:
            return False
        if found == sha256:
            self._write_stamp(path, sha256)
            return True
        with contextlib.suppress(OSError):
            os.unlink(_stamp_path(path))
        return False

    def put(self, source: str, path: str, sha256: str) -> None:
        """Moves a file whose hash has been checked to its place, all at once."""
        with _as_config_error(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(source, path)
        self._write_stamp(path, sha256)

    def _write_stamp(self, path: str, sha256: str) -> None:
        status = os.stat(path)
        stamp = _Stamp(sha256, status.st_size, status.st_mtime_ns)
        # A folder that cannot be written to (a shared cache) costs a hash at each start, not the start.
        with contextlib.suppress(OSError):
            with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as file:
                file.write(msgspec.json.encode(stamp))
            os.replace(file.name, _stamp_path(path))

    def _make(self, name: str) -> str:
        folder = os.path.join(self.path, name)
        with _as_config_error(folder):
            os.makedirs(folder, exist_ok=True)
        return folder


def hash_file(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp_path(path: str) -> str:
    return f"{path}.verified"


@contextlib.contextmanager
def _as_config_error(path: str) -> Iterator[None]:
    """What the disk refuses is the user's to repair."""
    try:
        yield
    except OSError as error:
        advice = "free some space" if error.errno == errno.ENOSPC else "make it writable"
        raise ConfigError(
            f"cannot write to the model cache at {path}: {error.strerror}; {advice}, "
            "or choose another folder with --download-dir"
        ) from error
