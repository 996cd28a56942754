"""PackedFolder: where packed weights are kept, safely for several processes at once; knows nothing of torch or kernels.

``models.loading`` opens and stores through it, ``yeoul cache`` lists and prunes. A model's configuration has one file,
``<file or folder>-<digest>.packed``; a model that changed, or another version of the layout, replaces it. Beside it
``.partial`` is what is being written, under the lock of that name in ``locks/``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence

import msgspec

from yeoul.errors import ModelFileError
from yeoul.model_files.cache_folder import FREE_SPACE_RESERVE_BYTES, CacheFolder
from yeoul.model_files.packed_file import (
    PackedFile,
    PackedHeader,
    PackedKey,
    StoredArray,
    read_packed_header,
    write_packed_file,
)

FOLDER_NAME = "packed"
ENDING = ".packed"
PARTIAL_ENDING = ".partial"
WAIT_SECONDS = 60.0
_PAUSE_SECONDS = 0.02
_MAX_NAME_CHARACTERS = 60


class PackedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A packed file as it is listed. ``key`` is None where its header cannot be read; ``used_at`` is a time in seconds."""

    path: str
    model: str
    key: PackedKey | None
    num_bytes: int
    used_at: float
    is_in_use: bool


class PackedFolder:
    """The folder ``packed`` of a cache folder; made when something is first written to it."""

    def __init__(self, cache: CacheFolder, wait_seconds: float = WAIT_SECONDS) -> None:
        self.path = os.path.join(cache.path, FOLDER_NAME)
        self._cache = cache
        self._wait_seconds = wait_seconds

    def path_of(self, key: PackedKey) -> str:
        """Where the weights of these files in a configuration belong; the content and the layout are named in the file."""
        return os.path.join(self.path, _name_of(key) + ENDING)

    def open(self, key: PackedKey) -> PackedFile | None:
        """The packed weights, checked; None where there are none, or those of another content or layout.

        Raises:
            ModelFileError: the file is damaged; ``store`` replaces it.
            OSError: it cannot be read.
        """
        path = self.path_of(key)
        try:
            if read_packed_header(path).key != key:
                return None
            file = PackedFile.open(path)
        except FileNotFoundError:
            return None
        if file.header.key != key:  # replaced since
            return None
        with contextlib.suppress(OSError):  # a cache that cannot be written to remembers no use
            os.utime(path)
        return file

    @contextlib.contextmanager
    def packing(self, key: PackedKey) -> Iterator[None]:
        """Waits until no other process packs the same; what comes after may find that the other one has done it.

        Raises:
            OSError: the folder cannot be written to, or the other process was not done within ``wait_seconds``.
        """
        os.makedirs(self.path, exist_ok=True)
        with self._locked(_name_of(key), self._wait_seconds):
            yield

    def store(self, header: PackedHeader, arrays: Sequence[tuple[StoredArray, memoryview]]) -> None:
        """Writes a file and puts it in its place all at once. Call it under ``packing``.

        Raises:
            OSError: the disk is full, or refuses otherwise; nothing is left behind.
        """
        self._sweep(except_name=_name_of(header.key))
        path = self.path_of(header.key)
        partial = path.removesuffix(ENDING) + PARTIAL_ENDING
        free = shutil.disk_usage(self.path).free
        if free < header.num_data_bytes + FREE_SPACE_RESERVE_BYTES:
            raise OSError(f"it needs {header.num_data_bytes >> 20} MiB of free disk space, found {free >> 20} MiB")
        try:
            write_packed_file(partial, header, arrays)
            os.replace(partial, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise

    def drop(self, key: PackedKey) -> None:
        """Removes a file that was found damaged, if the disk lets it. Call it under ``packing``."""
        with contextlib.suppress(OSError):
            os.unlink(self.path_of(key))

    def entries(self) -> list[PackedEntry]:
        """All packed files, the last used first."""
        try:
            names = [name for name in os.listdir(self.path) if name.endswith(ENDING)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = [entry for name in names if (entry := _look_at(os.path.join(self.path, name))) is not None]
        return sorted(found, key=lambda entry: -entry.used_at)

    def remove(self, entry: PackedEntry) -> bool:
        """Removes a packed file; False where a running server has it open, or it cannot be removed."""
        try:
            with _held(entry.path):
                os.unlink(entry.path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def sweep(self) -> None:
        """Removes what processes left that were killed while they wrote."""
        self._sweep(except_name=None)

    def _sweep(self, except_name: str | None) -> None:
        with contextlib.suppress(OSError):
            for file in os.listdir(self.path):
                name = file.removesuffix(PARTIAL_ENDING)
                if name not in (file, except_name):
                    with contextlib.suppress(OSError), self._locked(name, wait_seconds=0.0):
                        os.unlink(os.path.join(self.path, file))

    @contextlib.contextmanager
    def _locked(self, name: str, wait_seconds: float) -> Iterator[None]:
        folder = os.path.join(self._cache.path, "locks")
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(os.path.join(folder, f"packed-{name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock_within(descriptor, wait_seconds)
            yield
        finally:
            os.close(descriptor)


def _name_of(key: PackedKey) -> str:
    # Not the identities: a file that was replaced takes the place of its packed form too, and nothing piles up.
    place = msgspec.msgpack.encode([[file.path for file in key.files], key.dtype, key.rank, key.size])
    path = key.files[0].path if key.files else ""
    source = path if path.endswith(".gguf") else os.path.dirname(path)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.basename(source))[:_MAX_NAME_CHARACTERS].strip("-.")
    return f"{readable or 'model'}-{hashlib.sha256(place).hexdigest()[:16]}"


def _look_at(path: str) -> PackedEntry | None:
    try:
        status = os.stat(path)
        header = read_packed_header(path)
    except FileNotFoundError:
        return None
    except (OSError, ModelFileError):
        header = None
    name = os.path.basename(path).removesuffix(ENDING).rpartition("-")[0]
    return PackedEntry(
        path=path,
        model=name if header is None else header.model,
        key=None if header is None else header.key,
        num_bytes=status.st_size,
        used_at=status.st_mtime,
        is_in_use=_is_in_use(path),
    )


def _is_in_use(path: str) -> bool:
    try:
        with _held(path):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


@contextlib.contextmanager
def _held(path: str) -> Iterator[None]:
    """The file for this process alone; raises BlockingIOError where a server has it open."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _lock_within(descriptor: int, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise BlockingIOError(f"another process has packed them for more than {wait_seconds:g} s") from None
            time.sleep(_PAUSE_SECONDS)
