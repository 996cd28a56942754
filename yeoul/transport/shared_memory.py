"""Memory without a name, for children that inherit its descriptor; knows nothing of what they keep there.

Called by the executor and by ``channel``.
"""

from __future__ import annotations

import fcntl
import os

from yeoul.errors import TransportError


def create_shared_memory(name: str, num_bytes: int) -> int:
    """A memfd of so many zeros that nobody can resize; pages are taken when they are written. The caller closes it.

    Args:
        name: what ``/proc/PID/fd`` shows; it names nothing that could be opened or left behind.

    Raises:
        TransportError: the kernel has none to give.
    """
    try:
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise TransportError(f"cannot make shared memory: {error.strerror}") from error
    try:
        os.ftruncate(fd, num_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError as error:
        os.close(fd)
        raise TransportError(f"cannot make {num_bytes} bytes of shared memory: {error.strerror}") from error
    return fd
