"""A packed file: a model's weights for one configuration as the kernels read them, to be mapped; knows nothing of torch.

``packed_folder`` keeps such files, ``models.packed_weights`` fills and reads them. Layout: magic, length of the arrays and
checksum of the header; zeros up to a page; the arrays, written as they come; the header (msgpack). Whoever has a file mapped
holds a shared ``flock`` on it for as long as the map lives.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator
from typing import IO, Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from yeoul.errors import ModelFileError
from yeoul.model_files.cache_folder import FREE_SPACE_RESERVE_BYTES
from yeoul.model_files.file_identity import FileIdentity
from yeoul.model_files.mapped_file import MAP_NORESERVE

Bytes = npt.NDArray[np.uint8]

MAGIC = b"YEOULPK2"
ARRAY_ALIGNMENT = 64
PAGE_BYTES = 4096
MAX_HEADER_BYTES = 64 << 20

_PREFIX = struct.Struct("<8sQ16s")
_CHUNK_BYTES = 1 << 20
_LOCK_SECONDS, _LOCK_PAUSE_SECONDS = 1.0, 0.01


class PackedKey(msgspec.Struct, frozen=True, kw_only=True):
    """What packed weights were made of and for; they serve for an equal key only.

    Attributes:
        files: the model's files as they were.
        shape: ``description.shape_digest`` of the model.
        dtype: the type that the model computes in.
        rank: the worker's place among those that share the layers.
        size: how many they are.
        stage: which part of the layers it is.
        num_stages: of how many.
        packing: a name for the code that packs, see ``models.packed_loading``.
    """

    files: list[FileIdentity]
    shape: str
    dtype: str
    rank: int
    size: int
    packing: str
    stage: int = 0
    num_stages: int = 1


class StoredArray(msgspec.Struct, frozen=True, array_like=True):
    """An array: torch's name of its type, its shape, and where it lies in the file."""

    type_name: str
    shape: list[int]
    offset: Annotated[int, msgspec.Meta(ge=0)]
    num_bytes: Annotated[int, msgspec.Meta(ge=0)]


class StoredWeight(msgspec.Struct, frozen=True, array_like=True):
    """One weight: its arrays, None where it has none of that kind, and numbers that say how to read them."""

    arrays: list[StoredArray | None]
    numbers: list[int] = []


class PackedHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What stands behind the arrays. ``checksum`` is the XXH3 of all bytes from the first page's end to the header."""

    model: str
    key: PackedKey
    weights: dict[str, StoredWeight]
    checksum: bytes


class PackedFile:
    """A file that was checked and is mapped: ``weights``, their arrays. Its lock ends with the last array taken from it."""

    def __init__(self, weights: dict[str, StoredWeight], content: Bytes) -> None:
        self.weights = weights
        self._content = content

    @classmethod
    def open(cls, path: str, key: PackedKey) -> PackedFile | None:
        """Checks everything and maps the file: header, length, and the arrays' checksum, at the speed of memory.

        None where it is of another key.

        Raises:
            ModelFileError: it is damaged, or of another version.
            OSError: there is none, or it cannot be read.
        """
        with _opened(path) as descriptor:
            _lock_shared(descriptor, path)
            header, end = _read_header(descriptor, path)
            if header.key != key:
                return None
            if _checksum(descriptor, end) != header.checksum:
                raise _damaged(path, "its content is not what was written")
            return cls(header.weights, _map_private(descriptor, end))

    def data(self, array: StoredArray) -> Bytes:
        """The bytes of an array, shape ``[num_bytes]``, in the map."""
        return self._content[array.offset : array.offset + array.num_bytes]


class PackedFileWriter:
    """A file that is being written: ``put`` arrays as they come, note in ``weights`` what they are, and ``finish``."""

    def __init__(self, file: IO[bytes]) -> None:
        """``file`` is empty; it stays the caller's to close."""
        self.weights: dict[str, StoredWeight] = {}
        self._file = file
        self._checksum = xxhash.xxh3_128()
        file.seek(PAGE_BYTES)

    def put(self, type_name: str, shape: list[int], content: Bytes) -> StoredArray:
        """Writes an array, ``[num_bytes]``.

        Raises:
            OSError: the disk is full, or nearly so, or refuses otherwise.
        """
        status = os.fstatvfs(self._file.fileno())
        free = status.f_bavail * status.f_frsize
        if free < content.nbytes + FREE_SPACE_RESERVE_BYTES:
            raise OSError(errno.ENOSPC, f"{content.nbytes >> 20} MiB more need free disk space, found {free >> 20} MiB")
        self._append(bytes(-self._file.tell() % ARRAY_ALIGNMENT))
        array = StoredArray(type_name, shape, self._file.tell(), content.nbytes)
        self._append(content.data)
        return array

    def finish(self, model: str, key: PackedKey) -> None:
        """Writes the header and waits until the disk has everything."""
        header = PackedHeader(model=model, key=key, weights=self.weights, checksum=self._checksum.digest())
        encoded, end = msgspec.msgpack.encode(header), self._file.tell()
        self._file.write(encoded)
        self._file.seek(0)
        self._file.write(_PREFIX.pack(MAGIC, end, xxhash.xxh3_128_digest(encoded)))
        self._file.flush()
        # A page whose writing fails later may be read back as something else: the disk must have it all.
        os.fsync(self._file.fileno())

    def _append(self, content: bytes | memoryview) -> None:
        self._file.write(content)
        self._checksum.update(content)


def read_packed_header(path: str) -> PackedHeader:
    """The header alone, checked, and the file's length with it.

    Raises:
        ModelFileError: it is damaged, or of another version.
        OSError: there is none, or it cannot be read.
    """
    with _opened(path) as descriptor:
        return _read_header(descriptor, path)[0]


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_shared(descriptor: int, path: str) -> None:
    """A pruner holds the lock for a moment, in which it looks or removes; one that was stopped in it is not waited for."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BlockingIOError(f"{path} is locked by a process that removes it") from None
            time.sleep(_LOCK_PAUSE_SECONDS)


def _read_header(descriptor: int, path: str) -> tuple[PackedHeader, int]:
    """The header, and where it begins."""
    num_file_bytes = os.fstat(descriptor).st_size
    prefix = os.pread(descriptor, _PREFIX.size, 0)
    if len(prefix) < _PREFIX.size or not prefix.startswith(MAGIC):
        raise _damaged(path, "it does not begin as such a file does")
    _, end, digest = _PREFIX.unpack(prefix)
    if not PAGE_BYTES <= end <= num_file_bytes <= end + MAX_HEADER_BYTES:
        raise _damaged(path, f"it has {num_file_bytes} bytes, {end} of them before its header")
    encoded = os.pread(descriptor, num_file_bytes - end, end)
    if xxhash.xxh3_128_digest(encoded) != digest:
        raise _damaged(path, "its header is not what was written")
    try:
        header = msgspec.msgpack.decode(encoded, type=PackedHeader)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, f"its header is of another version ({error})") from error
    arrays = [array for weight in header.weights.values() for array in weight.arrays if array is not None]
    if any(array.offset + array.num_bytes > end for array in arrays):
        raise _damaged(path, "an array ends behind the others")
    return header, end


def _checksum(descriptor: int, end: int) -> bytes:
    """Read, not mapped: what the disk cannot give is an error here, and not a SIGBUS."""
    checksum = xxhash.xxh3_128()
    buffer = bytearray(_CHUNK_BYTES)
    window, position = memoryview(buffer), PAGE_BYTES
    while position < end and (num_read := os.preadv(descriptor, [window[: end - position]], position)) > 0:
        checksum.update(window[:num_read])
        position += num_read
    return checksum.digest() if position == end else b"cut off"


def _map_private(descriptor: int, num_bytes: int) -> Bytes:
    """Private, so that torch may wrap it without a warning and nobody can change the file.

    The map keeps a duplicate of the descriptor, and with it the lock.
    """
    flags, protection = mmap.MAP_PRIVATE | MAP_NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
    return np.frombuffer(mmap.mmap(descriptor, num_bytes, flags=flags, prot=protection), dtype=np.uint8)


def _damaged(path: str, what: str) -> ModelFileError:
    return ModelFileError(f"the packed weights in {path} are damaged: {what}")
