"""Channels between EngineCore and its workers: a ring, and ZeroMQ for what is larger than a slot; knows bytes only.

A channel is opened before the child starts; the child attaches by the handle among its arguments. Order is kept whatever the
size. Called by ``worker_process.executor`` (opens) and ``worker_process.worker_proc`` (attaches).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

import msgspec

from yeoul.errors import TransportClosedError, TransportError
from yeoul.transport.overflow import OverflowReceiver, OverflowSender, overflow_address
from yeoul.transport.ring import RingGeometry, RingReader, RingWriter, create_ring

_IN_SLOT = 0
_IN_OVERFLOW = 1
_WRITER_INDEX = -1
_CLOSE_TIMEOUT_SECONDS = 1.0


class ChannelHandle(msgspec.Struct, frozen=True):
    """What the far side needs to attach. ``reader_index`` is -1 for a writer; ``address`` is its overflow socket's."""

    ring: RingGeometry
    reader_index: int
    address: str

    @property
    def fds(self) -> list[int]:
        """The descriptors that the child has to inherit, under the same numbers."""
        return [self.ring.fd]


class _Channel:
    """What both ends share. ``owned_fd`` is the ring's memfd where this side opened the channel."""

    def __init__(self, end: RingReader | RingWriter, link: OverflowReceiver | OverflowSender, owned_fd: int | None) -> None:
        self._end = end
        self._link = link
        self._owned_fd = owned_fd
        self._use_lock = threading.Lock()
        self._close_lock = threading.Lock()
        self._is_interrupted = False

    def interrupt(self) -> None:
        """Wake the thread that waits here, from any thread, for good: it and later waits raise TransportClosedError."""
        self._is_interrupted = True
        self._end.interrupt()

    def close(self) -> None:
        """Close this end: a thread that waits here, and those on the other side, get TransportClosedError.

        From any thread; may be called twice. The other side still receives what was sent before.
        """
        self._is_interrupted = True
        self._end.close()
        with self._close_lock:
            if self._owned_fd is not None:
                os.close(self._owned_fd)
                self._owned_fd = None
        # Whoever was inside has been woken; sockets belong to one thread at a time.
        if self._use_lock.acquire(timeout=_CLOSE_TIMEOUT_SECONDS):
            self._link.close()
            self._use_lock.release()

    def _check(self) -> None:
        if self._is_interrupted:
            raise TransportClosedError("the channel was closed or interrupted on this side")


class ChannelWriter(_Channel):
    """The writing end. ``send`` may be called from any thread; messages are sent one after the other."""

    def __init__(self, ring: RingWriter, overflow: OverflowSender, owned_fd: int | None = None) -> None:
        super().__init__(ring, overflow, owned_fd)
        self._ring = ring
        self._overflow = overflow

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
            if len(payload) <= self._ring.geometry.slot_bytes:
                self._ring.publish(payload, _IN_SLOT, deadline)
                return
            number = self._ring.wait_for_room(deadline)
            self._overflow.wait_until_sendable(deadline, self._check)
            self._overflow.send(number, payload)
            self._ring.publish(b"", _IN_OVERFLOW, deadline)


class ChannelReader(_Channel):
    """A reading end. One thread at a time receives."""

    def __init__(self, ring: RingReader, overflow: OverflowReceiver, owned_fd: int | None = None) -> None:
        super().__init__(ring, overflow, owned_fd)
        self._ring = ring
        self._overflow = overflow

    def receive(self, timeout_seconds: float | None = None) -> bytes:
        """Wait for the next message.

        Raises:
            TransportTimeoutError: none came for ``timeout_seconds``.
            TransportClosedError: the writer closed its end and all that it sent was received, or this end was closed.
            TransportError: the shared memory is damaged.
        """
        deadline = _deadline(timeout_seconds)
        with self._use_lock:
            self._check()
            number, kind, payload = self._ring.peek(deadline)
            if kind == _IN_OVERFLOW:
                payload = self._overflow.receive(number, deadline, self._check)
            elif kind != _IN_SLOT:
                raise TransportError(f"the ring holds a message of the unknown kind {kind}")
            self._ring.release()
            return payload


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
    addresses = [overflow_address(folder) for _ in range(num_readers)]
    with contextlib.ExitStack() as on_error:
        geometry = create_ring(num_slots, slot_bytes, num_readers)
        on_error.callback(os.close, geometry.fd)
        ring = RingWriter(geometry)
        on_error.callback(ring.close)
        writer = ChannelWriter(ring, OverflowSender(addresses, is_opener=True), geometry.fd)
        on_error.pop_all()
    return writer, [ChannelHandle(geometry, index, address) for index, address in enumerate(addresses)]


def open_inbound(folder: str, *, num_slots: int, slot_bytes: int) -> tuple[ChannelReader, ChannelHandle]:
    """A channel on which one child writes and we read; arguments and errors are those of ``open_broadcast``."""
    address = overflow_address(folder)
    with contextlib.ExitStack() as on_error:
        geometry = create_ring(num_slots, slot_bytes, num_readers=1)
        on_error.callback(os.close, geometry.fd)
        ring = RingReader(geometry, 0)
        on_error.callback(ring.close)
        reader = ChannelReader(ring, OverflowReceiver(address, is_opener=True), geometry.fd)
        on_error.pop_all()
    return reader, ChannelHandle(geometry, _WRITER_INDEX, address)


def attach_reader(handle: ChannelHandle) -> ChannelReader:
    """Take the reading end that a parent opened with ``open_broadcast``.

    Raises:
        TransportError: the handle's descriptor is no such ring, or somebody has taken this end already.
    """
    if handle.reader_index < 0:
        raise TransportError("this handle is a writer's; expected a reader's")
    with contextlib.ExitStack() as on_error:
        ring = RingReader(handle.ring, handle.reader_index)
        on_error.callback(ring.close)
        reader = ChannelReader(ring, OverflowReceiver(handle.address, is_opener=False))
        on_error.pop_all()
    return reader


def attach_writer(handle: ChannelHandle) -> ChannelWriter:
    """Take the writing end that a parent opened with ``open_inbound``; errors as for ``attach_reader``."""
    if handle.reader_index != _WRITER_INDEX:
        raise TransportError("this handle is a reader's; expected a writer's")
    with contextlib.ExitStack() as on_error:
        ring = RingWriter(handle.ring)
        on_error.callback(ring.close)
        writer = ChannelWriter(ring, OverflowSender([handle.address], is_opener=False))
        on_error.pop_all()
    return writer


def _deadline(timeout_seconds: float | None) -> float | None:
    return None if timeout_seconds is None else time.monotonic() + timeout_seconds
