"""PackedFolder: where packed weights are kept, safely for several processes at once; knows nothing of torch or kernels.

``models.packed_loading`` opens and writes through it, ``yeoul cache`` lists and prunes. A model's configuration has one file,
``<file or folder>-<digest>.packed``; a model that changed, or another version of the layout, replaces it. What is being
written is ``.partial`` until it is whole. Who writes it has the lock ``.turn``, for which others wait who want the same; two
who write it at once both succeed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator

import msgspec

from yeoul.errors import ModelFileError
from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.packed_file import PackedFile, PackedFileWriter, PackedKey, read_packed_header

FOLDER_NAME = "packed"
ENDING = ".packed"
PARTIAL_ENDING = ".partial"
TURN_ENDING = ".turn"
_MAX_NAME_CHARACTERS = 60
_PAUSE_SECONDS = 0.02
_PATIENCE_SECONDS = 60.0  # with one who packs, and writes nothing for so long


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

    def __init__(self, cache: CacheFolder) -> None:
        self.path = os.path.join(cache.path, FOLDER_NAME)

    def path_of(self, key: PackedKey) -> str:
        """Where the weights of these files in a configuration belong; the content and the layout are named in the file."""
        return os.path.join(self.path, _name_of(key) + ENDING)

    def open(self, key: PackedKey) -> PackedFile | None:
        """The packed weights, checked; None where there are none, or those of another content or layout.

        Raises:
            ModelFileError: the file is damaged; ``write`` replaces it.
            OSError: it cannot be read.
        """
        path = self.path_of(key)
        try:
            file = PackedFile.open(path, key)
        except FileNotFoundError:
            return None
        if file is not None:
            with contextlib.suppress(OSError):  # a cache that cannot be written to remembers no use
                os.utime(path)
        return file

    @contextlib.contextmanager
    def turn(self, key: PackedKey) -> Iterator[bool]:
        """Waits until no other process packs the same: whether one did, and has left it here unless it failed or died.

        The turn ends with this process, however it ends. One that has stopped is not waited for.

        Raises:
            OSError: the disk refuses.
        """
        os.makedirs(self.path, exist_ok=True)
        path = os.path.join(self.path, _name_of(key) + TURN_ENDING)
        descriptor = _try_to_lock(path)
        had_to_wait, deadline, size = descriptor is None, time.monotonic() + _PATIENCE_SECONDS, 0
        while descriptor is None and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
            descriptor = _try_to_lock(path)
            if (now := self._num_partial_bytes(key)) != size:
                size, deadline = now, time.monotonic() + _PATIENCE_SECONDS
        try:
            yield had_to_wait
        finally:
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                os.close(descriptor)

    def _num_partial_bytes(self, key: PackedKey) -> int:
        size, prefix = 0, os.path.join(self.path, f"{_name_of(key)}.")
        for path in self._paths(PARTIAL_ENDING):
            if path.startswith(prefix):
                with contextlib.suppress(OSError):
                    size += os.path.getsize(path)
        return size

    @contextlib.contextmanager
    def write(self, model: str, key: PackedKey) -> Iterator[PackedFileWriter]:
        """A file to be filled, which takes its place all at once at the end; where the body fails, nothing is left of it.

        Raises:
            OSError: the disk is full, or refuses otherwise.
        """
        os.makedirs(self.path, exist_ok=True)
        self.sweep()
        prefix = f"{_name_of(key)}."
        with tempfile.NamedTemporaryFile("wb", suffix=PARTIAL_ENDING, prefix=prefix, dir=self.path, delete=False) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                writer = PackedFileWriter(file)
                yield writer
                writer.finish(model, key)
                os.replace(file.name, self.path_of(key))
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(file.name)
                raise

    def entries(self) -> list[PackedEntry]:
        """All packed files, the last used first."""
        found = [entry for path in self._paths(ENDING) if (entry := _look_at(path)) is not None]
        return sorted(found, key=lambda entry: -entry.used_at)

    def remove(self, entry: PackedEntry) -> bool:
        """Removes a packed file; False where a running server has it open, or it cannot be removed."""
        return _remove(entry.path)

    def sweep(self) -> None:
        """Removes what processes left that were killed while they wrote."""
        for path in [*self._paths(PARTIAL_ENDING), *self._paths(TURN_ENDING)]:
            _remove(path)

    def _paths(self, ending: str) -> list[str]:
        try:
            return [os.path.join(self.path, name) for name in os.listdir(self.path) if name.endswith(ending)]
        except (FileNotFoundError, NotADirectoryError):
            return []


def _name_of(key: PackedKey) -> str:
    # Not the identities: a file that was replaced takes the place of its packed form too, and nothing piles up.
    stage = [key.stage, key.num_stages] if key.num_stages > 1 else []
    place = msgspec.msgpack.encode([[file.path for file in key.files], key.dtype, key.rank, key.size, *stage])
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


def _try_to_lock(path: str) -> int | None:
    """The lock's descriptor; None where another process has it, or has just removed it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _remove(path: str) -> bool:
    """Whether the file is gone; one that anybody writes or has mapped stays."""
    try:
        with _held(path):
            os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


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
