"""Two prctl calls; knows nothing of our processes and threads; used by ``thread_names`` and ``child_side``."""

from __future__ import annotations

import ctypes
import os

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_libc.prctl.restype = ctypes.c_int


def set_kernel_thread_name(name: bytes) -> None:
    """Name the calling thread for the kernel, which keeps the first 15 bytes."""
    buffer = ctypes.create_string_buffer(name[:15])
    if _libc.prctl(_PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def set_parent_death_signal(signal_number: int) -> None:
    """Have the kernel send ``signal_number`` to this process when the *thread* that started it ends, or its whole process."""
    if _libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
