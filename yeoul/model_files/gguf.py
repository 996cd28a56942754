"""GgufFile: a GGUF model's metadata, tensor table and mapped bytes; knows nothing of torch or of architectures.

The describing, tokenizer and weight-loading code call it. Opening reads headers only. A model may be split over several files
(``name-00001-of-00003.gguf``): the first has the metadata, each a part of the tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yeoul.errors import ModelFileError
from yeoul.model_files.gguf_header import GgufMetadata, GgufValue, TensorEntry, read_header
from yeoul.model_files.gguf_names import part_names
from yeoul.model_files.gguf_types import TENSOR_TYPES
from yeoul.model_files.mapped_file import map_file

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["GgufFile", "GgufMetadata", "GgufTensor", "GgufValue"]

DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """Where a tensor lies. ``shape`` is in torch's order (rows first); ``offset`` counts from the first byte of its part."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int
    num_bytes: int
    part: int


class GgufFile:
    """An open GGUF model: ``path``, ``metadata``, ``tensors``. The maps are released with the last array taken from them."""

    def __init__(self, path: str, mapped: list[memoryview], metadata: GgufMetadata, tensors: dict[str, GgufTensor]) -> None:
        self.path = path
        self.metadata = metadata
        self.tensors = tensors
        self._mapped = mapped

    @classmethod
    def open(cls, path: str) -> GgufFile:
        """Maps the file, and the other parts of a split model, and reads the headers.

        Raises:
            ModelFileError: one of them is missing, damaged or of another kind.
        """
        tensors: dict[str, GgufTensor] = {}
        mapped: list[memoryview] = []
        paths = [path]
        for part, part_path in enumerate(paths):
            mapped.append(map_file(part_path))
            metadata, table, position = read_header(mapped[part], part_path)
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
                tensors[entry.name] = _check_tensor(entry, part_path, data_start, len(mapped[part]), part)
        return cls(path, mapped, first, tensors)

    def data(self, name: str) -> npt.NDArray[np.uint8]:
        """The raw (quantised) bytes of a tensor, shape [num_bytes], still in the map; unknown names: ModelFileError."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ModelFileError(f"{self.path} has no tensor {name!r}; it holds {len(self.tensors)} others")
        import numpy as np  # only who loads weights needs it

        mapped = self._mapped[tensor.part]
        return np.frombuffer(mapped[tensor.offset : tensor.offset + tensor.num_bytes], dtype=np.uint8)


def _check_split(metadata: GgufMetadata, path: str, part: int, num_parts: int) -> None:
    """What the file says of its place among the parts, against its name."""
    count, number = metadata.get("split.count", 0) or 1, metadata.get("split.no", 0)
    if count != num_parts or number != part:
        raise ModelFileError(
            f"{path} says that it is part {number} (from 0) of {count}, but by its name it is part {part} of {num_parts}; "
            "the parts of a split model lie in one folder and are called NAME-00001-of-00003.gguf and so on"
        )


def _check_tensor(entry: TensorEntry, path: str, data_start: int, file_size: int, part: int) -> GgufTensor:
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
    offset = data_start + entry.relative_offset
    if offset + num_bytes > file_size:
        raise ModelFileError(
            f"{path} is truncated: tensor {entry.name!r} ends at byte {offset + num_bytes}, "
            f"the file has {file_size} bytes; fetch it again"
        )
    return GgufTensor(entry.name, shape, tensor_type.name, offset, num_bytes, part)
