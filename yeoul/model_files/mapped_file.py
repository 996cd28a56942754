"""A file as a memory map; knows nothing of formats. The GGUF and safetensors readers call it.

Headers are read without numpy, which takes a tenth of a second to import: a server's start waits for them.
"""

from __future__ import annotations

import mmap
import os
import stat

from yeoul.errors import ModelFileError

# Python names it from 3.13 on; the value is the same on x86-64 and ARM.
MAP_NORESERVE = 0x4000


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
