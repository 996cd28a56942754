"""FileContents: the bytes of files, by their ids: in a folder, or, without one, in files without names; knows no table.

All of it blocks, and is called in threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import weakref
from collections.abc import Collection, Iterator
from typing import BinaryIO

from yeoul.errors import ConfigError, UnavailableError

_PART = ".part"  # of the name of a file that is still being received


class FileContents:
    """``folder`` is made where it is missing; None keeps the bytes in files without a name, gone with this process.

    Raises:
        ConfigError: the folder cannot be made.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._nameless: dict[str, int] = {}  # descriptors
        weakref.finalize(self, _close_all, self._nameless)
        if folder is not None:
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"--data-dir: {folder} cannot be made: {error.strerror}") from error

    @property
    def max_num_files(self) -> int:
        """Each that has no name costs a descriptor."""
        return 128 if self._folder is None else 1 << 16

    def create(self, file_id: str) -> NewContent:
        """An empty one, which others see once it is kept.

        Raises:
            UnavailableError: it cannot be made.
        """
        with _on_this_disk():
            if self._folder is None:
                return NewContent(
                    self, file_id, os.open(tempfile.gettempdir(), os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
                )
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(self._path(file_id + _PART), flags, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # until it is kept, or this process ends: see ``sweep``
            return NewContent(self, file_id, descriptor)

    def keep(self, file_id: str, descriptor: int) -> None:
        """``NewContent`` calls it."""
        if self._folder is None:
            self._nameless[file_id] = descriptor
        else:
            os.rename(self._path(file_id + _PART), self._path(file_id))
            os.close(descriptor)

    def drop(self, file_id: str, descriptor: int) -> None:
        """``NewContent`` calls it."""
        os.close(descriptor)
        if self._folder is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(file_id + _PART))

    def open(self, file_id: str, *, writes: bool = False) -> BinaryIO:
        """One more view of its bytes, from the beginning on; whoever asks closes it.

        Raises:
            UnavailableError: it is not there any longer.
        """
        with _on_this_disk():
            if self._folder is not None:
                path = self._path(file_id)
            elif (nameless := self._nameless.get(file_id)) is not None:
                path = f"/proc/self/fd/{nameless}"
            else:
                raise UnavailableError("the file was deleted just now", retry_after_seconds=1)
            return open(path, "r+b" if writes else "rb", buffering=0 if writes else 1 << 16)

    def write_at(self, file_id: str, position: int, content: bytes) -> None:
        """Puts ``content`` at a position, and cuts off what stands behind it."""
        with _on_this_disk(), self.open(file_id, writes=True) as file:
            file.truncate(position)
            file.seek(position)
            left = memoryview(content)
            while left:
                left = left[file.write(left) or 0 :]

    def delete(self, file_id: str) -> None:
        """Harmless where there is none."""
        if self._folder is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(file_id))
        elif (nameless := self._nameless.pop(file_id, None)) is not None:
            os.close(nameless)

    def has(self, file_id: str) -> bool:
        """Whether its bytes are there."""
        return file_id in self._nameless if self._folder is None else os.path.exists(self._path(file_id))

    def sweep(self, known: Collection[str]) -> None:
        """Deletes what no id of ``known`` names and nobody receives, as a process that was killed leaves it."""
        if self._folder is not None:
            for name in os.listdir(self._folder):
                if name not in known:
                    with contextlib.suppress(OSError), open(os.path.join(self._folder, name), "rb") as left:
                        fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os.unlink(left.name)

    def _path(self, file_id: str) -> str:
        assert self._folder is not None
        return os.path.join(self._folder, file_id)


class NewContent:
    """Bytes that are still coming. ``keep`` or ``drop`` ends it."""

    def __init__(self, contents: FileContents, file_id: str, descriptor: int) -> None:
        self.file_id = file_id
        self.num_bytes = 0
        self._contents = contents
        self._descriptor: int | None = descriptor

    def write(self, content: bytes) -> None:
        """The next piece.

        Raises:
            UnavailableError: the disk is full, or broken.
        """
        assert self._descriptor is not None
        left = memoryview(content)
        with _on_this_disk():
            while left:
                left = left[os.write(self._descriptor, left) :]
        self.num_bytes += len(content)

    def keep(self) -> None:
        """It is complete.

        Raises:
            UnavailableError: the disk is full, or broken.
        """
        assert self._descriptor is not None
        with _on_this_disk():
            self._contents.keep(self.file_id, self._descriptor)
        self._descriptor = None

    def drop(self) -> None:
        """It will not be; harmless once it is kept."""
        if self._descriptor is not None:
            self._contents.drop(self.file_id, self._descriptor)
            self._descriptor = None


def _close_all(descriptors: dict[str, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


@contextlib.contextmanager
def _on_this_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"files cannot be kept or read: {error.strerror}", retry_after_seconds=5) from error
