"""A packed file: a model's weights for one configuration as the kernels read them, to be mapped; knows nothing of torch.

``packed_folder`` keeps such files, ``models.packed_weights`` fills and reads them. Layout: magic, length and SHA-256 of the
header, the header (msgpack), zeros up to a page, then the arrays. Whoever maps a file holds a shared ``flock`` on it for as
long as the map lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from yeoul.errors import ModelFileError
from yeoul.model_files.file_identity import FileIdentity

Bytes = npt.NDArray[np.uint8]

MAGIC = b"YEOULPK1"
ARRAY_ALIGNMENT = 64
PAGE_BYTES = 4096
MAX_HEADER_BYTES = 64 << 20

_PREFIX = struct.Struct("<8sQ32s")
_CHUNK_ROWS, _CHUNK_COLUMNS = 512, 256
_CHUNK_BYTES = _CHUNK_ROWS * _CHUNK_COLUMNS * 8
_MAP_NORESERVE = 0x4000  # Python names it from 3.13 on; the value is the same on x86-64 and ARM
_LOCK_SECONDS, _LOCK_PAUSE_SECONDS = 1.0, 0.01


class PackedKey(msgspec.Struct, frozen=True, kw_only=True):
    """What packed weights were made of and for; they serve for an equal key only.

    Attributes:
        files: the model's files as they were.
        shape: ``description.shape_digest`` of the model.
        dtype: the type that the model computes in.
        rank: the worker's place among those that share the model.
        size: how many they are.
        packing: a name for the packed layout and everything that leads to it, see ``models.packing_fingerprint``.
    """

    files: list[FileIdentity]
    shape: str
    dtype: str
    rank: int
    size: int
    packing: str


class StoredArray(msgspec.Struct, frozen=True, array_like=True):
    """An array: torch's name of its type, its shape, and where it lies behind the header."""

    type_name: str
    shape: list[int]
    offset: Annotated[int, msgspec.Meta(ge=0)]
    num_bytes: Annotated[int, msgspec.Meta(ge=0)]


class StoredWeight(msgspec.Struct, frozen=True, array_like=True):
    """One weight: its arrays, None where it has none of that kind, and numbers that say how to read them."""

    arrays: list[StoredArray | None]
    numbers: list[int] = []


class PackedHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What stands before the arrays. ``checksum`` is that of all bytes behind the header, in hexadecimal."""

    model: str
    key: PackedKey
    weights: dict[str, StoredWeight]
    num_data_bytes: int
    checksum: str = "0" * 64


class PackedFile:
    """A file that was checked and is mapped: ``header``, and the arrays. Its lock ends with the last array taken from it."""

    def __init__(self, header: PackedHeader, data: Bytes) -> None:
        self.header = header
        self._data = data

    @classmethod
    def open(cls, path: str) -> PackedFile:
        """Checks everything and maps the file: header, length, and the arrays' checksum, at the speed of memory.

        Raises:
            ModelFileError: it is damaged, or of another version.
            OSError: there is none, or it cannot be read.
        """
        with _opened(path) as descriptor:
            _lock_shared(descriptor, path)
            header, data_start = _read_header(descriptor, path)
            if _checksum(descriptor, data_start, header.num_data_bytes) != header.checksum:
                raise _damaged(path, "its content is not what was written")
            # Private, so that torch may wrap it without a warning and nobody can change the file. The map keeps a
            # duplicate of the descriptor, and with it the lock.
            flags, protection = mmap.MAP_PRIVATE | _MAP_NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
            mapped = mmap.mmap(descriptor, data_start + header.num_data_bytes, flags=flags, prot=protection)
        return cls(header, np.frombuffer(mapped, dtype=np.uint8)[data_start:])

    def data(self, array: StoredArray) -> Bytes:
        """The bytes of an array, shape ``[num_bytes]``, in the map."""
        return self._data[array.offset : array.offset + array.num_bytes]


def read_packed_header(path: str) -> PackedHeader:
    """The header alone, checked, and the file's length with it.

    Raises:
        ModelFileError: it is damaged, or of another version.
        OSError: there is none, or it cannot be read.
    """
    with _opened(path) as descriptor:
        return _read_header(descriptor, path)[0]


def write_packed_file(path: str, header: PackedHeader, arrays: Sequence[tuple[StoredArray, memoryview]]) -> None:
    """Writes a whole file and waits until the disk has it.

    Raises:
        OSError: the disk is full, the folder is read-only, or the file may not be so large.
    """
    data_start = _data_start(len(msgspec.msgpack.encode(header)))
    num_bytes = data_start + header.num_data_bytes
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, num_bytes)  # a full disk says so before anything is written
        for array, content in arrays:
            _write_at(descriptor, data_start + array.offset, content)
        # A page whose writing fails later may be read back as something else: the disk must have it all.
        os.fsync(descriptor)
        checksum = _checksum(descriptor, data_start, header.num_data_bytes)
        encoded = msgspec.msgpack.encode(msgspec.structs.replace(header, checksum=checksum))
        prefix = _PREFIX.pack(MAGIC, len(encoded), hashlib.sha256(encoded).digest())
        _write_at(descriptor, 0, memoryview(prefix + encoded))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    num_file_bytes = os.fstat(descriptor).st_size
    prefix = os.pread(descriptor, _PREFIX.size, 0)
    if len(prefix) < _PREFIX.size or not prefix.startswith(MAGIC):
        raise _damaged(path, "it does not begin as such a file does")
    _, num_header_bytes, digest = _PREFIX.unpack(prefix)
    if num_header_bytes > min(MAX_HEADER_BYTES, num_file_bytes):
        raise _damaged(path, f"it claims a header of {num_header_bytes} bytes")
    encoded = os.pread(descriptor, num_header_bytes, _PREFIX.size)
    if hashlib.sha256(encoded).digest() != digest:
        raise _damaged(path, "its header is not what was written")
    try:
        header = msgspec.msgpack.decode(encoded, type=PackedHeader)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, f"its header is of another version ({error})") from error
    data_start = _data_start(num_header_bytes)
    if num_file_bytes != data_start + header.num_data_bytes:
        raise _damaged(path, f"expected {data_start + header.num_data_bytes} bytes, it has {num_file_bytes}")
    return header, data_start


def _data_start(num_header_bytes: int) -> int:
    return -(-(_PREFIX.size + num_header_bytes) // PAGE_BYTES) * PAGE_BYTES


def _checksum(descriptor: int, start: int, num_bytes: int) -> str:
    """SHA-256 over the sums, modulo 2^64, of every row and every column of each chunk, laid out as a table of words.

    A change goes unseen only if at least four words change so that all their rows' and columns' sums stay the same,
    which no flipped bit, lost page or exchanged page does. It costs a tenth of SHA-256 or CRC-32 over the bytes. Read, not
    mapped: what the disk cannot give is an error here, and not a SIGBUS.
    """
    hasher = hashlib.sha256()
    buffer = np.zeros(_CHUNK_BYTES, np.uint8)
    window = buffer.data
    table = buffer.view("<u8").reshape(_CHUNK_ROWS, _CHUNK_COLUMNS)
    for position in range(0, num_bytes, _CHUNK_BYTES):
        wanted = min(_CHUNK_BYTES, num_bytes - position)
        num_read = 0
        while num_read < wanted:
            piece = os.preadv(descriptor, [window[num_read:wanted]], start + position + num_read)
            if piece == 0:
                return "cut off"
            num_read += piece
        buffer[wanted:] = 0
        hasher.update(np.add.reduce(table, axis=0).tobytes())
        hasher.update(np.add.reduce(table, axis=1).tobytes())
    return hasher.hexdigest()


def _write_at(descriptor: int, position: int, content: memoryview) -> None:
    rest = content.cast("B")
    while rest:
        num_written = os.pwrite(descriptor, rest, position)
        position += num_written
        rest = rest[num_written:]


def _damaged(path: str, what: str) -> ModelFileError:
    return ModelFileError(f"the packed weights in {path} are damaged: {what}")
