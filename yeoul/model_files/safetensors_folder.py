"""map_tensors(): the tensors of a Hugging Face folder (one file or shards), mapped; knows nothing of torch.

The describing and weight-loading code call it. Only headers are read.
Source of the format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import math
import os

import msgspec

from yeoul.errors import ModelFileError
from yeoul.model_files.mapped_file import MappedTensor, bytes_in, map_file

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


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def map_tensors(path: str) -> dict[str, MappedTensor]:
    """Reads the headers of a folder's weight files, or of one ``.safetensors`` file; the tensors by their names.

    Raises ModelFileError for a missing or damaged file, shard or tensor.
    """
    tensors: dict[str, MappedTensor] = {}
    weight_map = _read_index(path)
    for file in _weight_files(path, weight_map):
        for tensor in _read_header(file, map_file(file)):
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
    return tensors


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


def _read_header(file: str, mapped: memoryview) -> list[MappedTensor]:
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
    return [_find_tensor(file, name, entry, data_start, mapped) for name, entry in entries.items()]


def _find_tensor(file: str, name: str, entry: _Entry, data_start: int, mapped: memoryview) -> MappedTensor:
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
    content = bytes_in(mapped, file, name, data_start + begin, num_bytes)
    return MappedTensor(name, tuple(entry.shape), entry.dtype, file, content)
