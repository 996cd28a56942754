"""EventSockets: numbered messages for whoever subscribes, and once more for whoever has missed some; knows bytes only.

The form is that of vLLM's KV events. Live: PUB, frames [topic, number, payload]. Replay: ROUTER, asked with [empty, first
number wanted]; the answer is the kept messages in the same three frames, behind an empty one, and at last [empty topic,
-1, empty payload]. Numbers have 8 bytes, big-endian, and begin at 0. One thread of EngineCore uses it.

Nothing here waits for a subscriber: who does not read loses messages, and sees that numbers are missing.
"""

from __future__ import annotations

import contextlib
import logging
import os
from bisect import bisect_left
from collections import deque
from itertools import islice
from operator import itemgetter

import zmq

from yeoul.errors import ConfigError

logger = logging.getLogger(__name__)

_END = (-1).to_bytes(8, "big", signed=True)
_MAX_KEPT_BYTES = 64 << 20
_MAX_NUM_REPLAYS = 32
_NUM_AT_ONCE = 64  # requests that are taken, and messages of a replay, before live messages have their turn again
_PAUSE_MILLISECONDS = 1  # between two such portions: others of this process need the interpreter, too
_MAX_REQUEST_BYTES = 1024
_KEEPALIVE = ((zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 30), (zmq.TCP_KEEPALIVE_INTVL, 10), (zmq.TCP_KEEPALIVE_CNT, 3))


class EventSockets:
    """``num_kept`` messages are kept for replays, as far as 64 MiB have room for them."""

    def __init__(
        self, endpoint: str, replay_endpoint: str | None, *, topic: bytes, num_kept: int, num_queued: int, listens: bool
    ) -> None:
        """Opens both sockets; ``num_queued`` messages wait for a subscriber. With ``listens`` False it connects to it.

        Raises:
            ConfigError: an address that cannot be used.
        """
        self._topic = topic
        self._num_kept = num_kept
        self._number = 0
        self._kept: deque[tuple[int, zmq.Frame]] = deque()
        self._num_kept_bytes = 0
        self._replays: dict[bytes, int] = {}  # who asked, and the next number for them
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._poller.register(self._wake_fd, zmq.POLLIN)
        self._replay: zmq.Socket[bytes] | None = None
        try:
            self._live = self._open(zmq.XPUB, endpoint, num_queued, listens)
            if replay_endpoint is not None:
                self._replay = self._open(zmq.ROUTER, replay_endpoint, num_kept + 1, True)
        except BaseException:
            self.close()
            self.release()
            raise

    def _open(self, kind: int, endpoint: str, num_queued: int, listens: bool) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.SNDHWM, num_queued)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, _MAX_REQUEST_BYTES)
        for option, value in _KEEPALIVE:
            socket.setsockopt(option, value)
        if kind == zmq.XPUB:
            socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        else:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._poller.register(socket, zmq.POLLIN)
        try:
            if listens:
                socket.bind(endpoint)
            else:
                socket.connect(endpoint)
        except zmq.ZMQError as error:
            hint = "another process uses it" if error.errno == zmq.EADDRINUSE else os.strerror(error.errno or 0)
            raise ConfigError(
                f"KV events cannot use the address {endpoint}: {hint}; choose another one in --kv-events-config",
                param="kv_events_config",
            ) from error
        return socket

    def wake(self) -> None:
        """Ends a ``wait``, or the next one; from any thread."""
        os.eventfd_write(self._wake_fd, 1)

    def wait(self) -> bool:
        """Until ``wake``, or until somebody asks for something, which is served: whether there is a new subscriber."""
        ready = dict(self._poller.poll(_PAUSE_MILLISECONDS if self._replays else None))
        if self._wake_fd in ready:
            os.eventfd_read(self._wake_fd)
        if self._replay is not None:
            if self._replay in ready:
                self._take_requests(self._replay)
            self._go_on_with_replays(self._replay)
        return self._live in ready and self._has_new_subscriber()

    def send(self, payload: bytes) -> None:
        """The next message, to everybody who has room for it."""
        frame = zmq.Frame(payload)
        self._live.send_multipart([self._topic, self._number.to_bytes(8, "big"), frame])
        if self._replay is not None:
            self._kept.append((self._number, frame))
            self._num_kept_bytes += len(payload)
            while len(self._kept) > self._num_kept or self._num_kept_bytes > _MAX_KEPT_BYTES:
                self._num_kept_bytes -= len(self._kept.popleft()[1])
        self._number += 1

    def skip(self, num_lost: int) -> None:
        """So many messages were lost before they came here: their numbers are missing for everybody."""
        self._number += num_lost

    def close(self) -> None:
        """Closes both, in the thread that waits; what is unsent is dropped."""
        self._context.destroy(linger=0)

    def release(self) -> None:
        """Lets go of the rest, once nobody calls ``wake`` any longer."""
        os.close(self._wake_fd)

    def _has_new_subscriber(self) -> bool:
        is_new = False
        with contextlib.suppress(zmq.Again):
            for _ in range(_NUM_AT_ONCE):
                is_new = self._live.recv(zmq.NOBLOCK).startswith(b"\1") or is_new
        return is_new

    def _take_requests(self, socket: zmq.Socket[bytes]) -> None:
        """What is no request, or one too many, is dropped; who asks asks again."""
        with contextlib.suppress(zmq.Again):
            for _ in range(_NUM_AT_ONCE):
                frames = socket.recv_multipart(zmq.NOBLOCK)
                if len(frames) != 3 or frames[1] or len(frames[2]) != 8:
                    logger.debug(
                        "dropped a request for a replay of %d frames; expected an empty one and a number", len(frames)
                    )
                elif frames[0] in self._replays or len(self._replays) < _MAX_NUM_REPLAYS:
                    self._replays[frames[0]] = int.from_bytes(frames[2], "big")
                else:
                    logger.debug("dropped a request for a replay: %d others are under way", len(self._replays))

    def _go_on_with_replays(self, socket: zmq.Socket[bytes]) -> None:
        for name in list(self._replays):
            try:
                self._send_some(socket, name)
            except zmq.ZMQError:  # gone, or its queue is full: it asks again
                del self._replays[name]

    def _send_some(self, socket: zmq.Socket[bytes], name: bytes) -> None:
        first = bisect_left(self._kept, self._replays[name], key=itemgetter(0))
        for number, frame in islice(self._kept, first, first + _NUM_AT_ONCE):
            socket.send_multipart([name, b"", self._topic, number.to_bytes(8, "big"), frame], zmq.NOBLOCK)
            self._replays[name] = number + 1
        if self._replays[name] >= self._number:
            socket.send_multipart([name, b"", b"", _END, b""], zmq.NOBLOCK)
            del self._replays[name]
