"""The ring's C helper as Python calls it: where the library lies, and the types of its functions; used by ``channel`` alone.

Calls that never sleep keep the interpreter lock: handing it over could cost a busy process milliseconds. Calls that may
sleep release it.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import os
import sysconfig
from collections.abc import Callable
from typing import Any, NoReturn, cast

import yeoul.transport
from yeoul.errors import MachineError, TransportClosedError, TransportError

_FILE_NAME = "libyeoul_ring.so"


class Status(enum.IntEnum):
    """What the functions return; the same as in ``ring_atomics.c``."""

    OK = 0
    NOT_NOW = 1
    TIMEOUT = 2
    SIGNAL = 3
    CLOSED = 4
    INTERRUPTED = 5
    DAMAGED = 6
    CLAIMED = 7
    FAILED = 8


class Message(ctypes.Structure):
    """A message that waits in its slot: ``length`` bytes at the address ``payload``."""

    payload: int
    length: int
    kind: int
    _fields_ = (("payload", ctypes.c_void_p), ("length", ctypes.c_uint64), ("kind", ctypes.c_uint32))


class RingLibrary:
    """The functions of ``ring_atomics.c``; a ring is an opaque address."""

    def __init__(self, path: str) -> None:
        sleeping, prompt = ctypes.CDLL(path, use_errno=True), ctypes.PyDLL(path, use_errno=True)
        geometry = (ctypes.c_uint32, ctypes.c_uint64, ctypes.c_uint32)
        ring, message = ctypes.c_void_p, ctypes.POINTER(Message)
        self.num_bytes = _typed(prompt.ring_num_bytes, ctypes.c_uint64, *geometry)
        self.attach = _typed(
            sleeping.ring_attach, ctypes.c_int, ctypes.c_int, *geometry, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p)
        )
        self.detach = _typed(sleeping.ring_detach, None, ring)
        self.wait_for_room = _typed(sleeping.ring_wait_for_room, ctypes.c_int, ring, ctypes.c_int64)
        self.wait_for_message = _typed(sleeping.ring_wait_for_message, ctypes.c_int, ring, message, ctypes.c_int64)
        self.publish = _typed(prompt.ring_publish, ctypes.c_int, ring, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint32)
        self.look = _typed(prompt.ring_look, ctypes.c_int, ring, message)
        self.release = _typed(prompt.ring_release, None, ring)
        counter = ctypes.POINTER(ctypes.c_uint64)
        self.count = _typed(prompt.ring_count, None, ring, ctypes.c_uint32, counter, counter)
        self.interrupt = _typed(prompt.ring_interrupt, None, ring)
        self.close = _typed(prompt.ring_close, None, ring)


@functools.cache
def ring_library() -> RingLibrary:
    """The library, loaded once a process.

    Raises:
        MachineError: the library was not built, not for this machine, or of another version than the sources.
    """
    # A wheel puts it beside this file. An editable install leaves the sources where they are and puts it into the
    # environment; the package's path names both folders, unless the sources were found before the installation.
    folders = [*yeoul.transport.__path__, os.path.join(sysconfig.get_path("platlib"), "yeoul", "transport")]
    candidates = list(dict.fromkeys(os.path.join(folder, _FILE_NAME) for folder in folders))
    for path in candidates:
        if os.path.exists(path):
            try:
                return RingLibrary(path)
            except OSError as error:
                raise MachineError(f"cannot load {path}: {error}; install Yeoul again on this machine") from error
            except AttributeError as error:  # the sources have been changed since
                raise MachineError(f"{path} is of another version of Yeoul ({error}): run `make install`") from error
    raise MachineError(f"the native library is not built: expected one of {candidates}; run `make install`")


def raise_status(status: int, side: str) -> NoReturn:
    """Raise the error that a status stands for; ``side`` is whom the ring's other end belongs to."""
    match status:
        case Status.CLOSED:
            raise TransportClosedError(f"the {side} closed the ring")
        case Status.INTERRUPTED:
            raise TransportClosedError("the channel was closed or interrupted on this side")
        case Status.DAMAGED:
            raise TransportError("the ring holds what its protocol does not allow; its processes have to be started again")
        case Status.CLAIMED:
            raise TransportError("this end of the ring is taken; a ring has one writer, and one reader an index")
    raise TransportError(f"the ring failed: {os.strerror(ctypes.get_errno())} (status {status})")


def _typed(function: Any, result: Any, *arguments: Any) -> Callable[..., Any]:
    function.restype = result
    function.argtypes = arguments
    return cast("Callable[..., Any]", function)
