"""Asks the kernel for memory of one node; knows nothing of plans. Called by CPUDevice before anything large is there."""

from __future__ import annotations

import ctypes
import os
import platform

_PREFERRED = 1  # MPOL_PREFERRED of linux/mempolicy.h: where the node is full, memory of another one, not the worker's end
_CALL_NUMBERS = {"x86_64": 238, "aarch64": 237}  # of set_mempolicy
_MASK_BITS = 1024

_libc = ctypes.CDLL(None, use_errno=True)


def prefer_memory_of_node(node: int) -> None:
    """What this thread, and those that it starts, touch first from now on comes from ``node`` as long as it has room.

    Raises:
        OSError: the kernel does not do so (no such node, a container that forbids it, another processor).
    """
    number = _CALL_NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(f"the number of set_mempolicy on {platform.machine()} is not known")
    mask = (ctypes.c_ulong * (_MASK_BITS // (8 * ctypes.sizeof(ctypes.c_ulong))))()
    bits = 8 * ctypes.sizeof(ctypes.c_ulong)
    mask[node // bits] = 1 << (node % bits)
    if _libc.syscall(number, _PREFERRED, mask, ctypes.c_ulong(_MASK_BITS)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
