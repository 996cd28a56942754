"""Which file it is that lies at a path now, without reading it; knows no format. The packed weights are kept under it.

A file's change time (ctime) moves with every write and every rename, and unlike the modification time nobody can set it
back: ``cp -p``, ``rsync -t`` and ``touch`` do not hide that a file was replaced in place. The inode tells two files of one
moment apart.
"""

from __future__ import annotations

import os
import time

import msgspec

from yeoul.errors import ModelFileError
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.gguf_names import existing_parts

_WEIGHT_ENDINGS = (".safetensors", ".safetensors.index.json", "config.json")
_SECOND_NS = 10**9
_FINE_CLOCK_TICK_NS = 10**8
_COARSE_CLOCK_TICK_NS = 3 * _SECOND_NS


class FileIdentity(msgspec.Struct, frozen=True):
    """A file's real path, and what of its status changes with its content."""

    path: str
    inode: int
    num_bytes: int
    modified_ns: int
    changed_ns: int


def identify(files: ModelFiles) -> list[FileIdentity]:
    """The files that hold a model's weights and shape, in the order of their names.

    Raises:
        ModelFileError: one of them is gone.
    """
    paths = existing_parts(files.path)
    if os.path.isdir(files.path):
        paths = [os.path.join(files.path, name) for name in sorted(os.listdir(files.path)) if name.endswith(_WEIGHT_ENDINGS)]
    return [_identify(path) for path in paths]


def are_settled(identities: list[FileIdentity], now_ns: int | None = None) -> bool:
    """Whether a write after this moment would show in the identities.

    One within the same tick of the file system's clock would not: such a file must not be remembered yet. Ticks are
    milliseconds, or where no time has a fraction of a second (FAT, old NFS) up to two seconds.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    for identity in identities:
        tick_ns = _FINE_CLOCK_TICK_NS if identity.changed_ns % _SECOND_NS else _COARSE_CLOCK_TICK_NS
        if identity.changed_ns + tick_ns > now_ns:
            return False
    return True


def _identify(path: str) -> FileIdentity:
    try:
        real_path = os.path.realpath(path)
        status = os.stat(real_path)
    except OSError as error:
        raise ModelFileError(f"cannot look at the model file {path}: {error.strerror}; check the path") from error
    return FileIdentity(real_path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
