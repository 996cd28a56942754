"""A channel between EngineCore and a worker on another host: one ZeroMQ link over tcp with CURVE, one message at a time.

The counterpart of ``channel`` where no memory can be shared; knows bytes and nothing of what they mean. EngineCore binds and
the worker connects. A link that breaks is not mended, since what was under way on it is lost: both sides take it for the end.
Called by ``worker_process.tcp_links`` (binds) and ``worker_process.worker_proc`` (connects).
"""

from __future__ import annotations

import math
import os
import threading
import time

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from yeoul.errors import TransportClosedError, TransportError, TransportTimeoutError
from yeoul.transport.channel import ChannelCounts
from yeoul.transport.curve_keys import CurveKeys
from yeoul.transport.link_watch import PEER_EVENTS
from yeoul.transport.sockets import open_link

_CLOSE_TIMEOUT_SECONDS = 1.0
_CONNECT_TIMEOUT_SECONDS = 20.0
_HANDSHAKE_MILLISECONDS = 5_000  # for as long a stranger can keep the end of the peer from being seen


class TcpHandle(msgspec.Struct, frozen=True, tag="tcp"):
    """What a worker needs to connect: where to, and its keys."""

    address: str
    keys: CurveKeys


def address_of(socket: zmq.Socket[bytes], address: str) -> str:
    """The address that a socket was bound to, with the port that it has got."""
    return f"{address.rpartition(':')[0]}:{socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(':')[2]}"


class _TcpEnd:
    """What both ends share. One thread at a time uses an end; others may wake and close it."""

    def __init__(self, kind: int, event: int, context: zmq.Context[zmq.Socket[bytes]] | None) -> None:
        """``context`` None is the one that everything in this process may share."""
        self._socket = (context or zmq.Context.instance()).socket(kind)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, event)
        self._poller.register(self._wake_fd, zmq.POLLIN)
        self._use_lock, self._state_lock = threading.Lock(), threading.Lock()
        self._is_interrupted = self._is_closed = False
        self._num_messages = self._num_bytes = 0
        self._events: zmq.Socket[bytes] | None = None
        self.address = ""

    def bind(self, address: str, keys: CurveKeys) -> zmq.Socket[bytes]:
        """Listen at ``address``, whose port may be ``*``; the events of what connects, for ``PeerWatch``. We close them."""
        events: zmq.Socket[bytes] = self._socket.context.socket(zmq.PAIR)
        self._events = events
        events.setsockopt(zmq.RCVHWM, 0)  # ZeroMQ waits for ever where there is no room, and strangers make events, too
        monitor = f"inproc://peers-{id(self)}"
        self._socket.monitor(monitor, PEER_EVENTS)
        events.connect(monitor)
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MILLISECONDS)
        open_link(self._socket, address, keys, is_engine=True)
        self.address = address_of(self._socket, address)
        return events

    def connect(self, handle: TcpHandle) -> zmq.Socket[bytes]:
        """Connect, and wait until that has happened; the events of the link, for ``LinkWatch``. We close them.

        Raises:
            TransportTimeoutError: nobody answers there who knows our keys.
        """
        self.address = handle.address
        self._events = events = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        open_link(self._socket, handle.address, handle.keys, is_engine=False)
        deadline = time.monotonic() + _CONNECT_TIMEOUT_SECONDS
        while True:
            remaining = max(0.0, deadline - time.monotonic())
            if not events.poll(math.ceil(remaining * 1000)):
                raise TransportTimeoutError(
                    f"EngineCore does not answer at {handle.address} since {_CONNECT_TIMEOUT_SECONDS:g} seconds: expected a"
                    " way from this host to that one, with no firewall on it"
                )
            if recv_monitor_message(events)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                return events

    def interrupt(self) -> None:
        """Wake the thread that waits here, from any thread, for good: it and later waits raise TransportClosedError."""
        self._is_interrupted = True
        with self._state_lock:
            if not self._is_closed:
                os.eventfd_write(self._wake_fd, 1)

    def count(self) -> ChannelCounts:
        """What has crossed until now, from any thread."""
        return ChannelCounts(self._num_messages, self._num_bytes)

    def close(self) -> None:
        """Close this end, from any thread; may be called twice."""
        self.interrupt()
        if self._use_lock.acquire(timeout=_CLOSE_TIMEOUT_SECONDS):  # else a thread is inside: a socket is of one at a time
            with self._state_lock:
                if not self._is_closed:
                    self._is_closed = True
                    if self._events is not None:  # in this order: ZeroMQ waits for ever for the reader of an event
                        self._socket.disable_monitor()
                        self._events.close(linger=0)
                    self._socket.close(linger=0)
                    os.close(self._wake_fd)
            self._use_lock.release()

    def _wait(self, deadline: float | None) -> None:
        """Until the socket is ready, in its one thread."""
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = dict(self._poller.poll(None if remaining is None else math.ceil(remaining * 1000)))
        self._check()
        if not ready:
            raise TransportTimeoutError("the other side took no message, or sent none, in time")

    def _check(self) -> None:
        if self._is_interrupted:
            raise TransportClosedError("the channel was closed or interrupted on this side")


class TcpWriter(_TcpEnd):
    """The writing end; ``send`` may be called from any thread."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]] | None = None) -> None:
        super().__init__(zmq.PUSH, zmq.POLLOUT, context)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)

    def send(self, payload: bytes, timeout_seconds: float | None = None) -> None:
        """Hand a message of any size to ZeroMQ, which queues without a bound: what is in flight is bounded by steps.

        Raises:
            TransportTimeoutError: nobody was connected for ``timeout_seconds``; nothing was sent.
            TransportClosedError: this end was closed or interrupted.
            TransportError: the link failed.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        with self._use_lock:
            self._check()
            while True:
                try:
                    self._socket.send(payload, zmq.NOBLOCK)
                    break
                except zmq.Again:
                    self._wait(deadline)
                except zmq.ZMQError as error:
                    raise TransportError(f"the link failed: {error.strerror}") from error
            self._num_messages += 1
            self._num_bytes += len(payload)


class TcpReader(_TcpEnd):
    """The reading end. One thread at a time receives."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]] | None = None) -> None:
        super().__init__(zmq.PULL, zmq.POLLIN, context)

    def receive(self, timeout_seconds: float | None = None) -> bytes:
        """Wait for the next message.

        Raises:
            TransportTimeoutError: none came for ``timeout_seconds``.
            TransportClosedError: this end was closed or interrupted.
            TransportError: the link failed.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        with self._use_lock:
            self._check()
            while True:
                self._wait(deadline)
                try:
                    payload = self._socket.recv(zmq.NOBLOCK)
                    break
                except zmq.Again:  # ZeroMQ was too quick to say that something is there
                    continue
                except zmq.ZMQError as error:
                    raise TransportError(f"the link failed: {error.strerror}") from error
            self._num_messages += 1
            self._num_bytes += len(payload)
            return payload
