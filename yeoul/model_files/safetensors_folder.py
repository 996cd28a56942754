"""SafetensorsFolder: the tensors of a Hugging Face folder (one file or shards), mapped; knows nothing of torch.

The describing and weight-loading code call it. Opening reads the headers only.
Source of the format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from yeoul.errors import ModelFileError
from yeoul.model_files.mapped_file import map_file

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
MAX_HEADER_BYTES = 100_000_000
MAX_NUM_DIMENSIONS = 8
MAX_SIZE = 1 << 48

DTYPE_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
}


@dataclass(frozen=True, slots=True)
class SafetensorsTensor:
    """Where a tensor lies. ``dtype`` is the format's name (``BF16``); ``file`` a path; ``offset`` from its first byte."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: str
    offset: int
    num_bytes: int


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


class SafetensorsFolder:
    """An open folder: ``path`` and ``tensors``. The maps are released with the last array taken from them."""

    def __init__(self, path: str, tensors: dict[str, SafetensorsTensor], mapped: dict[str, memoryview]) -> None:
        self.path = path
        self.tensors = tensors
        self._mapped = mapped

    @classmethod
    def open(cls, path: str) -> SafetensorsFolder:
        """Reads the headers of a folder's weight files, or of one ``.safetensors`` file.

        Raises ModelFileError for a missing or damaged file, shard or tensor.
        """
        tensors: dict[str, SafetensorsTensor] = {}
        mapped: dict[str, memoryview] = {}
        weight_map = _read_index(path)
        for file in _weight_files(path, weight_map):
            mapped[file] = map_file(file)
            for tensor in _read_header(file, mapped[file]):
                if tensor.name in tensors:
                    raise ModelFileError(
                        f"{path}: tensor {tensor.name!r} is in two files, {tensors[tensor.name].file} and {file}"
                    )
                tensors[tensor.name] = tensor
        missing = sorted(weight_map.keys() - tensors.keys())
        if missing:
            raise ModelFileError(
                f"{path}: {len(missing)} tensors of {INDEX_NAME} are missing from their files, "
                f"the first is {missing[0]!r} in {weight_map[missing[0]]}; fetch the model again"
            )
        return cls(path, tensors, mapped)

    def data(self, name: str) -> npt.NDArray[np.uint8]:
        """The raw bytes of a tensor, shape [num_bytes], still in the map; unknown names: ModelFileError."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ModelFileError(f"{self.path} has no tensor {name!r}; it holds {len(self.tensors)} others")
        import numpy as np  # only who loads weights needs it

        mapped = self._mapped[tensor.file]
        return np.frombuffer(mapped[tensor.offset : tensor.offset + tensor.num_bytes], dtype=np.uint8)


def _read_index(path: str) -> dict[str, str]:
    index_path = os.path.join(path, INDEX_NAME)
    if not os.path.isfile(index_path):
        return {}
    try:
        weight_map = msgspec.json.decode(map_file(index_path), type=_Index).weight_map
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelFileError(f"{index_path} is damaged: {error}; fetch it again") from error
    for file in weight_map.values():
        if file != os.path.basename(file) or file in ("", ".", ".."):
            raise ModelFileError(f"{index_path} names the file {file!r}; expected a plain name inside the folder")
    return weight_map


def _weight_files(path: str, weight_map: dict[str, str]) -> list[str]:
    if os.path.isfile(path):
        return [path]
    if weight_map:
        files = [os.path.join(path, file) for file in sorted(set(weight_map.values()))]
        missing = [file for file in files if not os.path.exists(file)]
        if missing:
            raise ModelFileError(
                f"{path}: {len(missing)} of {len(files)} weight files are missing, "
                f"the first is {os.path.basename(missing[0])}; fetch the model again"
            )
        return files
    single = os.path.join(path, SINGLE_NAME)
    if os.path.exists(single):
        return [single]
    try:
        found = sorted(name for name in os.listdir(path) if name.endswith(".safetensors"))
    except OSError as error:
        raise ModelFileError(f"cannot read the model folder {path!r}: {error.strerror}") from error
    if not found:
        raise ModelFileError(f"{path} holds no weights: expected {SINGLE_NAME}, or {INDEX_NAME} with its shards")
    return [os.path.join(path, name) for name in found]


def _read_header(file: str, mapped: memoryview) -> list[SafetensorsTensor]:
    if len(mapped) < 8:
        raise ModelFileError(f"{file} is truncated: it has {len(mapped)} bytes; fetch it again")
    header_bytes = int.from_bytes(mapped[:8].tobytes(), "little")
    if header_bytes > min(MAX_HEADER_BYTES, len(mapped) - 8):
        raise ModelFileError(
            f"{file} is truncated or no safetensors file: it claims a header of {header_bytes} bytes, "
            f"{len(mapped) - 8} are left; fetch it again"
        )
    data_start = 8 + header_bytes
    try:
        fields = msgspec.json.decode(mapped[8:data_start], type=dict[str, msgspec.Raw])
        fields.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(raw, type=_Entry) for name, raw in fields.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelFileError(f"{file} has a damaged header: {error}; fetch it again") from error
    return [_check_entry(file, name, entry, data_start, len(mapped)) for name, entry in entries.items()]


def _check_entry(file: str, name: str, entry: _Entry, data_start: int, file_size: int) -> SafetensorsTensor:
    if entry.dtype not in DTYPE_BYTES:
        raise ModelFileError(
            f"{file}: tensor {name!r} has the unknown dtype {entry.dtype!r}; known are {', '.join(DTYPE_BYTES)}"
        )
    if len(entry.shape) > MAX_NUM_DIMENSIONS or not all(0 <= size < MAX_SIZE for size in entry.shape):
        raise ModelFileError(f"{file}: tensor {name!r} has an impossible shape; fetch it again")
    begin, end = entry.data_offsets
    num_bytes = math.prod(entry.shape) * DTYPE_BYTES[entry.dtype]
    if begin < 0 or end - begin != num_bytes:
        raise ModelFileError(
            f"{file}: tensor {name!r} of shape {tuple(entry.shape)} and dtype {entry.dtype} claims the bytes "
            f"{begin} to {end}, expected {num_bytes} bytes; fetch it again"
        )
    if data_start + end > file_size:
        raise ModelFileError(
            f"{file} is truncated: tensor {name!r} ends at byte {data_start + end}, "
            f"the file has {file_size} bytes; fetch it again"
        )
    return SafetensorsTensor(name, tuple(entry.shape), entry.dtype, file, data_start + begin, num_bytes)
