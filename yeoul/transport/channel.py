"""Channels between EngineCore and workers, and from stage to stage: a ring in shared memory, one writer, N readers, no locks.

Knows bytes and nothing of what they mean. Every reader takes every message, in order; a full ring holds the writer back until
the slowest reader has moved on. What is larger than a slot crosses on ZeroMQ, with its place in the ring. The memory is a
memfd without a name. A channel is opened before the child starts; the child attaches by the handle among its arguments.
Called by ``worker_process.local_crew`` (opens) and ``worker_process.attachment`` (attaches).
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from yeoul.errors import TransportClosedError, TransportError, TransportTimeoutError
from yeoul.transport.overflow import OverflowReceiver, OverflowSender, overflow_address
from yeoul.transport.ring_library import Message, Status, raise_status, ring_library
from yeoul.transport.shared_memory import create_shared_memory

_IN_SLOT = 0
_IN_OVERFLOW = 1
_WRITER = -1
_CLOSE_TIMEOUT_SECONDS = 1.0
_FOR_EVER = -1
_POSITION, _READER_OFFSET = struct.Struct("<Q"), 192  # in shared_header and the first shared_reader of ring_atomics.c


class RingGeometry(msgspec.Struct, frozen=True):
    """The memory of a ring: ``fd`` is its memfd, each of ``num_slots`` slots holds up to ``slot_bytes`` bytes."""

    fd: int
    num_slots: int
    slot_bytes: int
    num_readers: int


class ChannelHandle(msgspec.Struct, frozen=True, tag="ring"):
    """What one end needs to attach. ``reader_index`` is -1 for a writer, which has an overflow address for each reader."""

    ring: RingGeometry
    reader_index: int
    addresses: list[str]

    @property
    def fds(self) -> list[int]:
        """The descriptors that the child has to inherit, under the same numbers."""
        return [self.ring.fd]


class ChannelCounts(NamedTuple):
    """What has crossed a channel, and how many of its messages a reader has not taken yet. ``num_bytes`` are this end's."""

    num_messages: int = 0
    num_bytes: int = 0
    num_waiting: int = 0
    num_slots: int = 1

    @property
    def fill(self) -> float:
        """The share of its slots that are taken."""
        return self.num_waiting / self.num_slots


class _End:
    """What both ends share. One thread at a time uses an end; others may wake and close it.

    Whoever opened the channel owns its descriptor.
    """

    _overflow: OverflowReceiver | OverflowSender

    def __init__(
        self, handle: ChannelHandle, open_overflow: Callable[[], OverflowReceiver | OverflowSender], *, is_opener: bool
    ) -> None:
        self._geometry = handle.ring
        self._library = ring_library()
        self._ring = ctypes.c_void_p()
        self._owned_fd = handle.ring.fd if is_opener else None
        self._use_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._is_interrupted = self._is_closed = False
        self._num_bytes = 0
        sizes = (handle.ring.num_slots, handle.ring.slot_bytes, handle.ring.num_readers)
        with contextlib.ExitStack() as on_error:
            if is_opener:
                on_error.callback(os.close, handle.ring.fd)
            status = self._library.attach(handle.ring.fd, *sizes, handle.reader_index, ctypes.byref(self._ring))
            if status != Status.OK:
                raise_status(status, "other side")
            on_error.callback(self._library.detach, self._ring)
            self._overflow = open_overflow()
            on_error.pop_all()

    def interrupt(self) -> None:
        """Wake the thread that waits here, from any thread, for good: it and later waits raise TransportClosedError."""
        self._is_interrupted = True
        with self._state_lock:
            if not self._is_closed:
                self._library.interrupt(self._ring)

    def count(self, reader_index: int = 0) -> ChannelCounts:
        """What has crossed until now, from any thread; of a closed channel nothing."""
        num_published, num_waiting = ctypes.c_uint64(), ctypes.c_uint64()
        with self._state_lock:  # as long as it is held, nobody unmaps the memory
            if self._is_closed:
                return ChannelCounts()
            self._library.count(self._ring, reader_index, ctypes.byref(num_published), ctypes.byref(num_waiting))
        return ChannelCounts(num_published.value, self._num_bytes, num_waiting.value, self._geometry.num_slots)

    def close(self) -> None:
        """Close this end: a thread that waits here, and those on the other side, get TransportClosedError.

        From any thread; may be called twice. The other side still receives what was sent before.
        """
        self._is_interrupted = True
        with self._state_lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._library.close(self._ring)
        if self._owned_fd is not None:
            os.close(self._owned_fd)
        # A thread that was inside leaves at once. If one does not, all stays: unmapping the memory would crash the thread,
        # and sockets belong to one thread at a time.
        if self._use_lock.acquire(timeout=_CLOSE_TIMEOUT_SECONDS):
            self._library.detach(self._ring)
            self._overflow.close()
            self._use_lock.release()

    def _check(self) -> None:
        if self._is_interrupted:
            raise TransportClosedError("the channel was closed or interrupted on this side")


class ChannelWriter(_End):
    """The writing end; only one can ever be attached. ``send`` may be called from any thread."""

    _overflow: OverflowSender

    def __init__(self, handle: ChannelHandle, *, is_opener: bool = False) -> None:
        """Take the end that the handle names; errors as for ``ChannelReader``."""
        if handle.reader_index != _WRITER:
            raise TransportError("this handle is a reader's; expected a writer's")
        super().__init__(handle, lambda: OverflowSender(handle.addresses, is_opener=is_opener), is_opener=is_opener)

    def send(self, payload: bytes, timeout_seconds: float | None = None) -> None:
        """Hand a message of any size to every reader.

        Raises:
            TransportTimeoutError: the slowest reader left no room for ``timeout_seconds``; nothing was sent.
            TransportClosedError: a reader closed its end, or this one was closed or interrupted.
            TransportError: the shared memory is damaged.
        """
        deadline = _deadline(timeout_seconds)
        with self._use_lock:
            self._check()
            self._num_bytes += len(payload)
            if len(payload) <= self._geometry.slot_bytes:
                self._publish(payload, _IN_SLOT, deadline)
                return
            self._overflow.wait_until_sendable(deadline, self._check)
            self._publish(b"", _IN_OVERFLOW, deadline)
            self._overflow.send(payload)

    def _publish(self, payload: bytes, kind: int, deadline: float | None) -> None:
        while (status := self._library.publish(self._ring, payload, len(payload), kind)) == Status.NOT_NOW:
            status = self._library.wait_for_room(self._ring, _nanoseconds(deadline))
            self._check()
            if status == Status.TIMEOUT:
                raise TransportTimeoutError(f"a reader left the ring's {self._geometry.num_slots} slots full for too long")
            if status not in (Status.OK, Status.SIGNAL):  # Python has handled the signal by now
                break
        if status != Status.OK:
            raise_status(status, "reader")


class ChannelReader(_End):
    """A reading end; each index can be attached once. One thread at a time receives."""

    _overflow: OverflowReceiver

    def __init__(self, handle: ChannelHandle, *, is_opener: bool = False) -> None:
        """Take the end that the handle names.

        Raises:
            TransportError: the handle is of the other kind, its descriptor no such ring, or somebody has taken this end
                already.
        """
        if handle.reader_index == _WRITER:
            raise TransportError("this handle is a writer's; expected a reader's")
        super().__init__(handle, lambda: OverflowReceiver(handle.addresses[0], is_opener=is_opener), is_opener=is_opener)

    def receive(self, timeout_seconds: float | None = None) -> bytes:
        """Wait for the next message. What the writer sent before it closed is still given.

        Raises:
            TransportTimeoutError: none came for ``timeout_seconds``.
            TransportClosedError: the writer closed its end and all that it sent was received, or this end was closed.
            TransportError: the shared memory is damaged.
        """
        deadline = _deadline(timeout_seconds)
        with self._use_lock:
            self._check()
            message = self._wait_for_message(deadline)
            if message.kind == _IN_SLOT:
                payload = ctypes.string_at(message.payload, message.length)
            elif message.kind == _IN_OVERFLOW:
                payload = self._overflow.receive(deadline, self._check)
            else:
                raise TransportError(f"the ring holds a message of the unknown kind {message.kind}")
            self._library.release(self._ring)
            self._num_bytes += len(payload)
            return payload

    def _wait_for_message(self, deadline: float | None) -> Message:
        """The next message, which keeps its slot until it is released."""
        message = Message()
        status = self._library.look(self._ring, ctypes.byref(message))
        while status in (Status.NOT_NOW, Status.SIGNAL):
            status = self._library.wait_for_message(self._ring, ctypes.byref(message), _nanoseconds(deadline))
            self._check()
        if status == Status.TIMEOUT:
            raise TransportTimeoutError("no message came in time")
        if status != Status.OK:
            raise_status(status, "writer")
        return message


class RingLook:
    """What has crossed a ring, for whoever made it and has neither end: both are children's. Reads alone."""

    def __init__(self, ring: RingGeometry) -> None:
        self._num_slots = ring.num_slots
        self._memory = mmap.mmap(ring.fd, mmap.PAGESIZE, prot=mmap.PROT_READ)

    def count(self) -> ChannelCounts:
        """Until now, from any thread; how many bytes nobody counts."""
        (taken,) = _POSITION.unpack_from(self._memory, _READER_OFFSET)  # first: a reader is never ahead of what comes later
        (published,) = _POSITION.unpack_from(self._memory, 0)
        return ChannelCounts(published, 0, min(published - taken, self._num_slots), self._num_slots)


def open_broadcast(
    folder: str, num_readers: int, *, num_slots: int, slot_bytes: int
) -> tuple[ChannelWriter, list[ChannelHandle]]:
    """A channel on which we write and ``num_readers`` children read, each with its own handle.

    Args:
        folder: a private folder for the overflow sockets, whose names are gone once the children have attached.
        num_slots: how many messages may wait for the slowest reader; ``slot_bytes`` each, larger ones go over ZeroMQ.

    Raises:
        TransportError: the sizes are out of range, or the memory or the sockets cannot be had.
    """
    ring = _create_ring(num_slots, slot_bytes, num_readers)
    addresses = [overflow_address(folder) for _ in range(num_readers)]
    writer = ChannelWriter(ChannelHandle(ring, _WRITER, addresses), is_opener=True)
    return writer, [ChannelHandle(ring, index, [address]) for index, address in enumerate(addresses)]


def open_inbound(folder: str, *, num_slots: int, slot_bytes: int) -> tuple[ChannelReader, ChannelHandle]:
    """A channel on which one child writes and we read; arguments and errors are those of ``open_broadcast``."""
    ring, address = _create_ring(num_slots, slot_bytes, num_readers=1), overflow_address(folder)
    return ChannelReader(ChannelHandle(ring, 0, [address]), is_opener=True), ChannelHandle(ring, _WRITER, [address])


def open_between(folder: str, *, num_slots: int, slot_bytes: int) -> tuple[ChannelHandle, ChannelHandle]:
    """A channel between two children: what the writer needs, and what the reader does, who attaches as the opener.

    The descriptor is ours until both children have it. Arguments and errors are those of ``open_broadcast``.
    """
    ring, address = _create_ring(num_slots, slot_bytes, num_readers=1), overflow_address(folder)
    return ChannelHandle(ring, _WRITER, [address]), ChannelHandle(ring, 0, [address])


def _create_ring(num_slots: int, slot_bytes: int, num_readers: int) -> RingGeometry:
    num_bytes = ring_library().num_bytes(num_slots, slot_bytes, num_readers)
    if num_bytes == 0:
        raise TransportError(f"a ring cannot have {num_slots} slots of {slot_bytes} bytes for {num_readers} readers")
    return RingGeometry(create_shared_memory("yeoul-ring", num_bytes), num_slots, slot_bytes, num_readers)


def _deadline(timeout_seconds: float | None) -> float | None:
    return None if timeout_seconds is None else time.monotonic() + timeout_seconds


def _nanoseconds(deadline: float | None) -> int:
    return _FOR_EVER if deadline is None else max(0, int(deadline * 1e9))
