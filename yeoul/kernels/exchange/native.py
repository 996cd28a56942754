"""SharedExchange: one rank's end of the memory through which ranks of a host sum and join their rows; see ``exchange.cpp``.

Knows nothing of layers or of who made the memory. Called by ``layers.parallel``. Sums have the bits of ``reference.py``, and
can be recorded like every native operation.
"""

from __future__ import annotations

import ctypes
import mmap
import os

from torch import Tensor

from yeoul.errors import TransportError
from yeoul.kernels.exchange.layout import STATE_BYTES, memory_bytes, slot_bytes_of
from yeoul.kernels.native.calls import ExchangeCall
from yeoul.kernels.native_library import address, number_type
from yeoul.kernels.native_operations import NativeOperation, new_tensor

_OTHER_SHAPE = 2  # Failure in exchange.h

_exchange = NativeOperation("exchange")


class _Exchange(ctypes.Structure):
    """The same as Exchange in ``exchange.h``."""

    has_failed: int
    _fields_ = (
        ("states", ctypes.c_void_p),
        ("slots", ctypes.c_void_p),
        ("slot_bytes", ctypes.c_int64),
        ("num_ranks", ctypes.c_int64),
        ("rank", ctypes.c_int64),
        ("timeout_nanoseconds", ctypes.c_int64),
        ("num_planned", ctypes.c_int64),
        ("has_failed", ctypes.c_int64),
    )


class SharedExchange:
    """All ranks must ask for the same exchanges in the same order.

    Args:
        fd: the memory, all zeros before the first exchange; it is mapped and remains the caller's to close.
        rank, num_ranks: this process's place.
        timeout_seconds: how long to wait for another rank.
    """

    def __init__(self, fd: int, rank: int, num_ranks: int, timeout_seconds: float) -> None:
        num_bytes = os.fstat(fd).st_size
        slot_bytes = slot_bytes_of(num_ranks, num_bytes)
        if slot_bytes < STATE_BYTES or slot_bytes % STATE_BYTES or memory_bytes(num_ranks, slot_bytes) != num_bytes:
            raise TransportError(f"{num_bytes} bytes of memory cannot be shared by {num_ranks} ranks; the executor makes it")
        self._memory = mmap.mmap(fd, num_bytes)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._timeout_seconds = timeout_seconds
        self._end = _Exchange(
            states=start,
            slots=start + num_ranks * STATE_BYTES,
            slot_bytes=slot_bytes,
            num_ranks=num_ranks,
            rank=rank,
            timeout_nanoseconds=int(timeout_seconds * 1e9),
        )
        self._sizes: dict[tuple[int, ...], ctypes.Array[ctypes.c_int64]] = {}

    def sum(self, part: Tensor) -> Tensor:
        """``reference.sum_parts`` of all ranks' ``part``, ``[num_rows, size]``."""
        part = part.contiguous()
        output = new_tensor(tuple(part.shape), part.dtype)
        self._run(part, output, None)
        return output

    def join(self, part: Tensor, sizes: list[int]) -> Tensor:
        """All ranks' ``part`` side by side; rank r's is ``[num_rows, sizes[r]]``."""
        part = part.contiguous()
        output = new_tensor((part.shape[0], sum(sizes)), part.dtype)
        self._run(part, output, self._sizes.setdefault(tuple(sizes), (ctypes.c_int64 * len(sizes))(*sizes)))
        return output

    def check(self) -> None:
        """Raises TransportError once another rank did not come in time, or with other rows: nothing since then is right."""
        if self._end.has_failed == _OTHER_SHAPE:
            raise TransportError("another rank of the model came to an exchange with other rows; the ranks differ in a step")
        if self._end.has_failed:
            raise TransportError(
                f"another rank of the model did not come to an exchange for {self._timeout_seconds:g} s; it is dead or hangs"
            )

    def _run(self, part: Tensor, output: Tensor, sizes: ctypes.Array[ctypes.c_int64] | None) -> None:
        num_rows, size = part.shape
        _exchange(
            ExchangeCall(
                num_rows=num_rows,
                size=size,
                exchange=ctypes.addressof(self._end),
                sizes=None if sizes is None else ctypes.addressof(sizes),
                input=address(part),
                output=address(output),
                type=number_type(part.dtype),
            )
        )
        self.check()
