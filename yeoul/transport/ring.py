"""A ring of slots in shared memory, one writer and N readers on it, without locks; knows bytes and nothing of what they mean.

Every reader takes every message, in order. A full ring holds the writer back until the slowest reader has moved on. The
memory is a memfd without a name, handed to children as a descriptor. Called by ``channel``, which adds what is too large.
"""

from __future__ import annotations

import ctypes
import os
import threading

import msgspec

from yeoul.errors import TransportError, TransportTimeoutError
from yeoul.transport.ring_library import Message, Status, raise_status, ring_library

_WRITER = -1
_CLOSE_TIMEOUT_SECONDS = 1.0
_FOR_EVER = -1


class RingGeometry(msgspec.Struct, frozen=True):
    """The memory of a ring: ``fd`` is its memfd, each of ``num_slots`` slots holds up to ``slot_bytes`` bytes."""

    fd: int
    num_slots: int
    slot_bytes: int
    num_readers: int


def create_ring(num_slots: int, slot_bytes: int, num_readers: int) -> RingGeometry:
    """Make an empty ring. Its descriptor is the caller's to close.

    Raises:
        TransportError: the sizes are out of range, or there is no memory for them.
    """
    fd = ring_library().create(num_slots, slot_bytes, num_readers)
    if fd < 0:
        reason = os.strerror(ctypes.get_errno())
        sizes = f"{num_slots} slots of {slot_bytes} bytes for {num_readers} readers"
        raise TransportError(f"cannot make a ring of {sizes}: {reason}")
    return RingGeometry(fd, num_slots, slot_bytes, num_readers)


class _RingEnd:
    """What both ends share: attaching, waking and closing. One thread at a time uses an end; others may wake and close it."""

    def __init__(self, geometry: RingGeometry, index: int) -> None:
        self._library = ring_library()
        self._ring = ctypes.c_void_p()
        self._use_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._is_closed = False
        self.geometry = geometry
        sizes = (geometry.num_slots, geometry.slot_bytes, geometry.num_readers)
        status = self._library.attach(geometry.fd, *sizes, index, ctypes.byref(self._ring))
        if status != Status.OK:
            raise_status(status, "other side")

    @property
    def is_closed(self) -> bool:
        """Whether ``close()`` was called on this side."""
        return self._is_closed

    def interrupt(self) -> None:
        """Wake the thread that waits here, from any thread; it and all later waits raise TransportClosedError."""
        with self._state_lock:
            if not self._is_closed:
                self._library.interrupt(self._ring)

    def close(self) -> None:
        """Tell the other side, wake whoever waits on either side, unmap the memory. From any thread; may be called twice."""
        with self._state_lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._library.close(self._ring)
        # A thread that was waiting leaves at once. If one does not, the memory stays: unmapping it would crash the thread.
        if self._use_lock.acquire(timeout=_CLOSE_TIMEOUT_SECONDS):
            self._library.detach(self._ring)
            self._use_lock.release()

    def _check_open(self) -> None:
        if self._is_closed:
            raise_status(Status.INTERRUPTED, "")


class RingWriter(_RingEnd):
    """The writing end of a ring; only one can ever be attached."""

    def __init__(self, geometry: RingGeometry) -> None:
        super().__init__(geometry, _WRITER)

    def wait_for_room(self, deadline: float | None) -> int:
        """Wait for a free slot until ``deadline`` (of ``time.monotonic``, None for ever); the number that its message gets.

        Raises:
            TransportTimeoutError: the slowest reader did not move on.
            TransportClosedError: a reader closed its end, or this end was closed or interrupted.
            TransportError: the shared memory is damaged.
        """
        with self._use_lock:
            self._check_open()
            self._wait_for_room(deadline)
            return int(self._library.position(self._ring)) + 1

    def publish(self, payload: bytes, kind: int, deadline: float | None) -> None:
        """Wait for a free slot as ``wait_for_room`` does, and publish a message of at most ``slot_bytes`` bytes in it."""
        if len(payload) > self.geometry.slot_bytes:
            raise TransportError(f"a slot holds {self.geometry.slot_bytes} bytes; the message has {len(payload)}")
        with self._use_lock:
            self._check_open()
            while (status := self._library.publish(self._ring, payload, len(payload), kind)) == Status.NOT_NOW:
                self._wait_for_room(deadline)
        if status != Status.OK:
            raise_status(status, "reader")

    def _wait_for_room(self, deadline: float | None) -> None:
        while True:
            self._check_open()
            status = self._library.wait_for_room(self._ring, _nanoseconds(deadline))
            if status == Status.OK:
                return
            if status == Status.TIMEOUT:
                raise TransportTimeoutError(f"a reader left the ring's {self.geometry.num_slots} slots full for too long")
            if status != Status.SIGNAL:  # Python has handled the signal by now
                raise_status(status, "reader")


class RingReader(_RingEnd):
    """One of the reading ends; each index can be attached once."""

    def __init__(self, geometry: RingGeometry, index: int) -> None:
        super().__init__(geometry, index)
        self._message = Message()

    def peek(self, deadline: float | None) -> tuple[int, int, bytes]:
        """Wait until ``deadline`` (of ``time.monotonic``, None for ever) for the next message: (number, kind, payload).

        The message keeps its slot, and comes again, until ``release()``. What the writer published before it closed is
        still given.

        Raises:
            TransportTimeoutError: no message came.
            TransportClosedError: the writer closed its end, or this end was closed or interrupted.
            TransportError: the shared memory is damaged.
        """
        with self._use_lock:
            self._check_open()
            message = self._message
            status = self._library.look(self._ring, ctypes.byref(message))
            while status in (Status.NOT_NOW, Status.SIGNAL):
                status = self._library.wait_for_message(self._ring, ctypes.byref(message), _nanoseconds(deadline))
                self._check_open()
            if status == Status.TIMEOUT:
                raise TransportTimeoutError("no message came in time")
            if status != Status.OK:
                raise_status(status, "writer")
            number = int(self._library.position(self._ring)) + 1
            return number, message.kind, ctypes.string_at(message.payload, message.length)

    def release(self) -> None:
        """Give the slot of the last message back to the writer.

        Raises:
            TransportClosedError: this end was closed.
        """
        with self._use_lock:
            self._check_open()
            self._library.release(self._ring)


def _nanoseconds(deadline: float | None) -> int:
    return _FOR_EVER if deadline is None else max(0, int(deadline * 1e9))
