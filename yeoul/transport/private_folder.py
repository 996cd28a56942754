"""The private folder for what must have a name in the file system; knows nothing of what lies in it; made by the web process.

A folder belongs to the process that holds its lock (``flock``), so that whoever ends or starts later can sweep it when that
process is gone, however it ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

from yeoul.config.user_folders import user_runtime_folder
from yeoul.errors import MachineError

_MAX_BASE_BYTES = 60
"""The path of a unix socket has at most 107 bytes; ours takes 45 of them for what follows the base."""


class PrivateFolder:
    """A folder of mode 0700 that ends with its owner: by ``remove()``, or swept by the next end or start on this machine."""

    def __init__(self, path: str, lock_fd: int) -> None:
        self.path = path
        self._lock_fd: int | None = lock_fd

    @classmethod
    def create(cls, base: str | None = None) -> PrivateFolder:
        """Sweep what dead owners left, then make a folder of our own under ``base``.

        ``base`` defaults to ``$XDG_RUNTIME_DIR``, or to the temporary folder where that is missing or too long a path.

        Raises:
            MachineError: no folder can be made there, or somebody else owns the one that ours go into.
        """
        parent = _make_parent(base or _default_base())
        _sweep(parent)
        while True:
            path = os.path.join(parent, f"{os.getpid()}-{secrets.token_hex(4)}")
            os.mkdir(path, 0o700)
            if (lock_fd := _lock(path)) is not None:
                return cls(path, lock_fd)
            # Another start swept the folder in the moment before it was locked: take the next name.

    def remove(self) -> None:
        """Remove the folder with everything in it, and sweep: a child that was killed could not. May be called again."""
        if self._lock_fd is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock_fd)
            self._lock_fd = None
        with contextlib.suppress(OSError):
            _sweep(os.path.dirname(self.path))

    def __enter__(self) -> PrivateFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def leftover_folders(base: str | None = None) -> tuple[str, list[str]]:
    """Where ``create`` makes folders, and those in it whose owners are gone, which it removes.

    Raises:
        MachineError: no folder can be made.
    """
    parent = _make_parent(base or _default_base())
    left = []
    for path in sorted(Path(parent).iterdir()):
        if (lock_fd := _lock(str(path))) is not None:
            os.close(lock_fd)
            left.append(str(path))
    return parent, left


def _default_base() -> str:
    candidates = [*filter(None, [user_runtime_folder()]), "/tmp"]  # noqa: S108
    with contextlib.suppress(FileNotFoundError):  # where no folder of those that it knows can be written to
        candidates.insert(-1, tempfile.gettempdir())
    for base in candidates:
        if len(os.fsencode(base)) <= _MAX_BASE_BYTES and os.access(base, os.W_OK | os.X_OK):
            return base
    raise MachineError(
        f"no folder for sockets: expected one of {candidates} to be writable; set XDG_RUNTIME_DIR to one that is"
    )


def _make_parent(base: str) -> str:
    path = os.path.join(base, f"yeoul-{os.geteuid()}")
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        status = os.lstat(path)
    except OSError as error:
        raise MachineError(
            f"cannot make the folder {path}: {error.strerror}; set XDG_RUNTIME_DIR to a writable one"
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise MachineError(
            f"{path} should be a folder of user {os.geteuid()} with mode 700; it is of user {status.st_uid}, mode "
            f"{stat.S_IMODE(status.st_mode):o}: remove it, or set XDG_RUNTIME_DIR to a folder of your own"
        )
    return path


def _lock(path: str) -> int | None:
    """Lock a folder and return the descriptor that holds the lock; None if it is another's, or gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.lstat(path)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


def _sweep(parent: str) -> None:
    """Remove the folders whose owner is gone."""
    for path in Path(parent).iterdir():
        if (lock_fd := _lock(str(path))) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock_fd)
