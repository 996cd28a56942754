"""Parses the header of a GGUF file (versions 2 and 3); knows nothing of architectures. gguf.py calls it.

Source of the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every count in a file is checked against
the bytes that are left before anything is allocated for it, so a damaged file costs neither time nor memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from yeoul.errors import ModelFileError

Scalar = bool | int | float | str
GgufValue = Scalar | list[bool] | list[int] | list[float] | list[str]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_KEY_BYTES = 65535
MAX_STRING_BYTES = 64 << 20
STRING_TYPE = 8
ARRAY_TYPE = 9
MIN_STRING_BYTES = 8
MIN_ENTRY_BYTES = 13
MIN_TENSOR_BYTES = 32
MAX_NUM_ENTRIES = 1 << 16
MAX_NUM_TENSORS = 1 << 20

_UINT32 = struct.Struct("<I")
_UINT64 = struct.Struct("<Q")


# What ``struct`` calls the values of a fixed size.
SCALAR_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class LazyArray(NamedTuple):
    """An array of the metadata that has been skipped: ``num_elements`` in the bytes from ``start`` to ``end``."""

    element_type: int
    num_elements: int
    start: int
    end: int


class TensorEntry(NamedTuple):
    """One line of the tensor table. ``dimensions`` are in the file's order, the fastest first."""

    name: str
    dimensions: tuple[int, ...]
    type_id: int
    relative_offset: int


class HeaderReader:
    """A cursor over the header. Every read past the end, and every absurd count, raises ModelFileError."""

    def __init__(self, data: memoryview, path: str) -> None:
        self.data = data
        self.path = path
        self.position = 0

    def damaged(self, what: str) -> ModelFileError:
        """The error for a header that cannot be right."""
        return ModelFileError(
            f"{self.path} is not a whole GGUF file: {what} (at byte {self.position} of {len(self.data)}); fetch it again"
        )

    def take(self, num_bytes: int) -> memoryview:
        """The next bytes; the cursor moves behind them."""
        end = self.position + num_bytes
        if end > len(self.data):
            raise self.damaged(f"expected {num_bytes} more bytes, {len(self.data) - self.position} are left")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def uint32(self) -> int:
        """The next number of four bytes."""
        return int(_UINT32.unpack(self.take(4))[0])

    def uint64(self) -> int:
        """The next number of eight bytes."""
        return int(_UINT64.unpack(self.take(8))[0])

    def count(self, what: str, min_element_bytes: int, limit: int = 1 << 32) -> int:
        """A count of things of at least ``min_element_bytes`` bytes each, checked against what is left and ``limit``."""
        number = self.uint64()
        if number > min(limit, (len(self.data) - self.position) // min_element_bytes):
            raise self.damaged(f"it claims {number} {what}, more than it can hold")
        return number

    def string(self, max_bytes: int = MAX_STRING_BYTES) -> str:
        """The next string; bytes that are not UTF-8 become U+FFFD."""
        length = self.uint64()
        if length > max_bytes:
            raise self.damaged(f"it claims a string of {length} bytes, at most {max_bytes} are allowed")
        return str(self.take(length), "utf-8", "replace")

    def value(self) -> Scalar | LazyArray:
        """The next value with its type in front; arrays are skipped, not read."""
        type_id = self.uint32()
        if type_id == STRING_TYPE:
            return self.string()
        if type_id == ARRAY_TYPE:
            return self.lazy_array()
        return self.scalar(type_id)

    def scalar(self, type_id: int) -> Scalar:
        """The next number or bool."""
        code = SCALAR_CODES.get(type_id)
        if code is None:
            raise self.damaged(f"value type {type_id} is unknown")
        value: Scalar = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]
        return value

    def lazy_array(self) -> LazyArray:
        """Skips an array and remembers where it lies."""
        element_type = self.uint32()
        if element_type == STRING_TYPE:
            count = self.count("strings", MIN_STRING_BYTES)
            start = self.position
            self.skip_strings(count)
        elif element_type in SCALAR_CODES:
            size = struct.calcsize(f"<{SCALAR_CODES[element_type]}")
            count = self.count("array elements", size)
            start = self.position
            self.take(count * size)
        else:
            raise self.damaged(f"array element type {element_type} is unknown")
        return LazyArray(element_type, count, start, self.position)

    def skip_strings(self, count: int) -> None:
        """Moves the cursor behind ``count`` strings; the hot loop of opening a file (up to 500,000 strings)."""
        position = self.position
        data = self.data
        unpack = _UINT64.unpack_from
        try:
            for _ in range(count):
                position += 8 + unpack(data, position)[0]
        except (struct.error, OverflowError, IndexError) as error:
            raise self.damaged("a list of strings runs past its end") from error
        if position > len(data):
            raise self.damaged("a list of strings runs past its end")
        self.position = position

    def tensor_entry(self) -> TensorEntry:
        """The next line of the tensor table."""
        name = self.string(MAX_KEY_BYTES)
        num_dimensions = self.uint32()
        if not 1 <= num_dimensions <= 4:
            raise self.damaged(f"tensor {name!r} claims {num_dimensions} dimensions, expected 1 to 4")
        dimensions = tuple(self.uint64() for _ in range(num_dimensions))
        return TensorEntry(name, dimensions, self.uint32(), self.uint64())


class GgufMetadata(Mapping[str, GgufValue]):
    """The metadata as a read-only mapping; an array is decoded when it is first asked for."""

    def __init__(self, data: memoryview, entries: dict[str, Scalar | LazyArray]) -> None:
        self._data = data
        self._entries = entries
        self._decoded: dict[str, GgufValue] = {}

    def __getitem__(self, key: str) -> GgufValue:
        entry = self._entries[key]
        if not isinstance(entry, LazyArray):
            return entry
        if key not in self._decoded:
            self._decoded[key] = _decode_array(self._data, entry)
        return self._decoded[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def read_header(data: memoryview, path: str) -> tuple[GgufMetadata, list[TensorEntry], int]:
    """The metadata, the tensor table and the position behind it. Raises ModelFileError for every damage."""
    reader = HeaderReader(data, path)
    if len(data) < 4 or bytes(reader.take(4)) != MAGIC:
        raise ModelFileError(f"{path} is not a GGUF file: it begins with {bytes(data[:4])!r}, expected {MAGIC!r}")
    version = reader.uint32()
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        kind = "a big-endian file" if swapped in VERSIONS else f"version {version}"
        raise ModelFileError(f"{path}: expected a little-endian GGUF file of version 2 or 3, found {kind}; convert it again")
    num_tensors = reader.count("tensors", MIN_TENSOR_BYTES, MAX_NUM_TENSORS)
    num_entries = reader.count("metadata entries", MIN_ENTRY_BYTES, MAX_NUM_ENTRIES)
    entries: dict[str, Scalar | LazyArray] = {}
    for _ in range(num_entries):
        key = reader.string(MAX_KEY_BYTES)
        if key in entries:
            raise reader.damaged(f"the metadata key {key!r} comes twice")
        entries[key] = reader.value()
    table = [reader.tensor_entry() for _ in range(num_tensors)]
    return GgufMetadata(data, entries), table, reader.position


def _decode_array(data: memoryview, array: LazyArray) -> GgufValue:
    section = data[array.start : array.end]
    if array.element_type == STRING_TYPE:
        return _decode_strings(section.tobytes(), array.num_elements)
    return list(struct.unpack(f"<{array.num_elements}{SCALAR_CODES[array.element_type]}", section))


def _decode_strings(section: bytes, count: int) -> list[str]:
    strings = []
    position = 0
    for _ in range(count):
        start = position + 8
        position = start + _UINT64.unpack_from(section, position)[0]
        strings.append(section[start:position].decode("utf-8", "replace"))
    return strings
