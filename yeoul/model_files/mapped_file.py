"""A file as a memory map, and tensors in it; knows nothing of formats. The GGUF and safetensors readers call it.

Headers are read without numpy, which takes a tenth of a second to import: a server's start waits for them.
"""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yeoul.errors import ModelFileError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Python names it from 3.13 on; the value is the same on x86-64 and ARM.
MAP_NORESERVE = 0x4000


@dataclass(frozen=True, slots=True, eq=False)
class MappedTensor:
    """A tensor in its file's map. ``shape`` is in torch's order (rows first), ``type_name`` the format's, ``file`` a path."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    file: str
    content: memoryview

    def data(self) -> npt.NDArray[np.uint8]:
        """The raw bytes, shape [num_bytes], still in the map, which lives as long as they do."""
        import numpy as np  # only who loads weights needs it

        return np.frombuffer(self.content, dtype=np.uint8)


def bytes_in(mapped: memoryview, file: str, name: str, offset: int, num_bytes: int) -> memoryview:
    """Where the tensor ``name`` lies in a file's map; raises ModelFileError where the file ends before it."""
    end = offset + num_bytes
    if end > len(mapped):
        raise ModelFileError(
            f"{file} is truncated: tensor {name!r} ends at byte {end}, the file has {len(mapped)} bytes; fetch it again"
        )
    return mapped[offset:end]


def map_file(path: str) -> memoryview:
    """The bytes of a regular file, read lazily by the kernel; the map lives as long as the view and what is made of it.

    The map is private and copy-on-write, so that torch may wrap parts of it without a warning and nobody can change
    the file. Raises ModelFileError for what is missing, unreadable, empty or not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelFileError(f"cannot open the model file {path!r}: {reason}; check the path and its permissions") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError(f"{path} is not a regular file; give the path of a model file")
        if status.st_size == 0:
            raise ModelFileError(f"{path} is empty (0 bytes); fetch it again")
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        return memoryview(mmap.mmap(descriptor, status.st_size, flags=mmap.MAP_PRIVATE | MAP_NORESERVE, prot=protection))
    except OSError as error:
        raise ModelFileError(f"cannot map the model file {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
