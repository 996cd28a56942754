"""The ZeroMQ link beside a ring, for messages larger than a slot; knows bytes only; used by ``channel``.

The side that opens the channel binds an ipc socket in the private folder before the child starts; the child's side connects
and then takes the name out of the file system.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Callable, Sequence

import zmq

from yeoul.errors import TransportError, TransportTimeoutError
from yeoul.transport.addresses import unlink_ipc

_CONNECT_TIMEOUT_SECONDS = 10.0
_SLICE_SECONDS = 0.02


def overflow_address(folder: str) -> str:
    """A fresh address in ``folder``."""
    return f"ipc://{folder}/ring-{secrets.token_hex(4)}"


class OverflowSender:
    """The writer's side: one socket a reader."""

    def __init__(self, addresses: Sequence[str], *, is_opener: bool) -> None:
        self._sockets = [_open(zmq.PUSH, address, is_opener=is_opener) for address in addresses]

    def wait_until_sendable(self, deadline: float | None, check: Callable[[], None]) -> None:
        """Wait until every reader is connected; ``check`` raises where waiting has become pointless.

        Raises:
            TransportTimeoutError: a reader was not connected by ``deadline``.
        """
        for socket in self._sockets:
            _poll(socket, zmq.POLLOUT, deadline, check)

    def send(self, payload: bytes) -> None:
        """Queue a message for every reader; never blocks after ``wait_until_sendable``."""
        for socket in self._sockets:
            try:
                socket.send(payload, zmq.NOBLOCK, copy=False)
            except zmq.ZMQError as error:
                raise TransportError(f"the overflow link broke: {error.strerror}") from error

    def close(self) -> None:
        """Close the sockets; what a reader has not taken yet still reaches it while this process lives."""
        for socket in self._sockets:
            socket.close(linger=1000)


class OverflowReceiver:
    """A reader's side."""

    def __init__(self, address: str, *, is_opener: bool) -> None:
        self._socket = _open(zmq.PULL, address, is_opener=is_opener)

    def receive(self, deadline: float | None, check: Callable[[], None]) -> bytes:
        """The next message; ``check`` raises where waiting is pointless.

        Raises:
            TransportTimeoutError: it did not come by ``deadline``.
        """
        _poll(self._socket, zmq.POLLIN, deadline, check)
        return self._socket.recv()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(linger=0)


def _open(kind: int, address: str, *, is_opener: bool) -> zmq.Socket[bytes]:
    """Bind (opener) or connect; queues have no limit, for the ring's slots are one."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    if kind == zmq.PUSH:  # on a receiver it would throw away what has arrived when the sender closes
        socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.LINGER, 0)
    try:
        if is_opener:
            socket.bind(address)
        else:
            _connect(socket, address)
    except zmq.ZMQError as error:
        socket.close()
        raise TransportError(f"cannot open {address}: {os.strerror(error.errno or 0)}") from error
    except TransportError:
        socket.close()
        raise
    return socket


def _connect(socket: zmq.Socket[bytes], address: str) -> None:
    """Connect, wait until that has happened, and unlink the name, which nobody needs any more."""
    events = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    try:
        socket.connect(address)
        if not events.poll(int(_CONNECT_TIMEOUT_SECONDS * 1000)):
            raise TransportTimeoutError(f"{address} did not answer within {_CONNECT_TIMEOUT_SECONDS:g} seconds")
    finally:
        socket.disable_monitor()
        events.close(linger=0)
    unlink_ipc([address])


def _poll(socket: zmq.Socket[bytes], event: int, deadline: float | None, check: Callable[[], None]) -> None:
    # In slices, since the reason to give up may come from another thread. What is waited for is on its way already.
    while True:
        remaining = math.inf if deadline is None else deadline - time.monotonic()
        if socket.poll(math.ceil(max(0.0, min(_SLICE_SECONDS, remaining)) * 1000), event):
            return
        check()
        if remaining <= 0:
            raise TransportTimeoutError("a message larger than a slot was not taken, or did not come, in time")
