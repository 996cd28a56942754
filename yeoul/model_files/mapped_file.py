"""A file as a memory map that numpy can see; knows nothing of formats. The GGUF and safetensors readers call it."""

from __future__ import annotations

import mmap
import os
import stat

import numpy as np
import numpy.typing as npt

from yeoul.errors import ModelFileError

# Python names it from 3.13 on; the value is the same on x86-64 and ARM.
_MAP_NORESERVE = 0x4000


def map_file(path: str) -> npt.NDArray[np.uint8]:
    """The bytes of a regular file, shape [size], read lazily by the kernel; the map lives as long as the array.

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
        mapped = mmap.mmap(descriptor, status.st_size, flags=mmap.MAP_PRIVATE | _MAP_NORESERVE, prot=protection)
    except OSError as error:
        raise ModelFileError(f"cannot map the model file {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return np.frombuffer(mapped, dtype=np.uint8)
