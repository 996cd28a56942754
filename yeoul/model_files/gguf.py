"""GgufFile: a GGUF model's metadata, tensor table and mapped bytes; knows nothing of torch or of architectures.

The describing, tokenizer and weight-loading code call it. Opening reads headers only. A model may be split over several files
(``name-00001-of-00003.gguf``): the first has the metadata, each a part of the tensors.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from yeoul.errors import ModelFileError
from yeoul.model_files.gguf_header import GgufMetadata, TensorEntry, read_header
from yeoul.model_files.gguf_names import part_names
from yeoul.model_files.gguf_types import TENSOR_TYPES
from yeoul.model_files.mapped_file import MappedTensor, bytes_in, map_file

DEFAULT_ALIGNMENT = 32


class GgufFile(NamedTuple):
    """An open GGUF model. Its maps are released with the last tensor."""

    path: str
    metadata: GgufMetadata
    tensors: dict[str, MappedTensor]

    @classmethod
    def open(cls, path: str) -> GgufFile:
        """Maps the file, and the other parts of a split model, and reads the headers.

        Raises:
            ModelFileError: one of them is missing, damaged or of another kind.
        """
        tensors: dict[str, MappedTensor] = {}
        paths = [path]
        for part, part_path in enumerate(paths):
            mapped = map_file(part_path)
            metadata, table, position = read_header(mapped, part_path)
            if part == 0:
                first = metadata
                paths += part_names(path)[1:] if metadata.get("split.count", 0) not in (0, 1) else []
            _check_split(metadata, part_path, part, len(paths))
            alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
            if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
                raise ModelFileError(
                    f"{part_path}: general.alignment is {alignment!r}, expected a power of two; fetch it again"
                )
            data_start = -(-position // alignment) * alignment
            for entry in table:
                if entry.name in tensors:
                    raise ModelFileError(f"{part_path}: tensor {entry.name!r} comes twice; fetch it again")
                tensors[entry.name] = _find_tensor(entry, part_path, data_start, mapped)
        return cls(path, first, tensors)


def _check_split(metadata: GgufMetadata, path: str, part: int, num_parts: int) -> None:
    """What the file says of its place among the parts, against its name."""
    count, number = metadata.get("split.count", 0) or 1, metadata.get("split.no", 0)
    if count != num_parts or number != part:
        raise ModelFileError(
            f"{path} says that it is part {number} (from 0) of {count}, but by its name it is part {part} of {num_parts}; "
            "the parts of a split model lie in one folder and are called NAME-00001-of-00003.gguf and so on"
        )


def _find_tensor(entry: TensorEntry, path: str, data_start: int, mapped: memoryview) -> MappedTensor:
    tensor_type = TENSOR_TYPES.get(entry.type_id)
    if tensor_type is None:
        raise ModelFileError(
            f"{path}: tensor {entry.name!r} has the unknown type {entry.type_id}; is the file newer than Yeoul?"
        )
    shape = tuple(reversed(entry.dimensions))
    if min(shape) < 1 or shape[-1] % tensor_type.block_size:
        raise ModelFileError(
            f"{path}: tensor {entry.name!r} has the shape {shape}, which {tensor_type.name} cannot hold (sizes are positive, "
            f"rows a multiple of {tensor_type.block_size}); fetch the file again"
        )
    num_bytes = math.prod(shape) // tensor_type.block_size * tensor_type.block_bytes
    content = bytes_in(mapped, path, entry.name, data_start + entry.relative_offset, num_bytes)
    return MappedTensor(entry.name, shape, tensor_type.name, path, content)
