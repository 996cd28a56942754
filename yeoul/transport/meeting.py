"""Where ranks on several hosts find each other: a few keys and values in EngineCore's memory, behind its CURVE keys.

Knows nothing of what is written there. ``worker_process.tcp_links`` opens the place, ``worker_process.meeting_store`` comes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import zmq

from yeoul.errors import ProcessDeadError, TransportError, TransportTimeoutError
from yeoul.transport.sockets import EngineContext, open_link
from yeoul.transport.tcp_channel import TcpHandle, address_of
from yeoul.transport.thread_names import start_thread

_MAX_NUM_BYTES = 64 << 20  # of all values: ranks leave some hundred bytes each
_ANSWER_SECONDS = 20.0
_LOOK_SECONDS = 0.01
_SET, _GET, _ADD, _DELETE = b"set", b"get", b"add", b"delete"
_YES, _NO = b"yes", b"no"


class MeetingPlace:
    """EngineCore's side: a thread that answers until ``close()``, which comes before the context's."""

    def __init__(
        self, context: EngineContext, address: str, on_failure: Callable[[ProcessDeadError], object] | None = None
    ) -> None:
        """Listen at ``address``, whose port may be ``*``.

        Raises:
            ConfigError: the address cannot be used.
        """
        self._socket = context.zmq_context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._end = context.zmq_context.socket(zmq.PAIR)
        self._ended = context.zmq_context.socket(zmq.PAIR)
        try:
            open_link(self._socket, address, context.keys, is_engine=True)
            self._ended.bind(f"inproc://meeting-{id(self)}")
            self._end.connect(f"inproc://meeting-{id(self)}")
        except BaseException:
            for one in (self._socket, self._end, self._ended):
                one.close(linger=0)
            raise
        self.address = address_of(self._socket, address)
        self._values: dict[bytes, bytes] = {}
        self._thread = start_thread("MeetingPlace", self._answer_all, on_failure)

    def look(self, key: bytes) -> bytes | None:
        """The value, if somebody has set it; from any thread."""
        return self._values.get(key)

    def close(self) -> None:
        """Whoever comes later waits in vain."""
        with contextlib.suppress(zmq.Again):  # the thread has died
            self._end.send(b"", zmq.NOBLOCK)
        self._thread.join()
        self._end.close(linger=0)

    def _answer_all(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._ended, zmq.POLLIN)
        with self._socket, self._ended:
            while self._ended not in dict(poller.poll()):
                frames = self._socket.recv_multipart()
                if len(frames) == 5:  # who, which question, what to do, the key, the value
                    self._socket.send_multipart([*frames[:2], *self._answer(*frames[2:])])

    def _answer(self, what: bytes, key: bytes, value: bytes) -> tuple[bytes, bytes]:
        values = self._values
        if what == _GET:
            return (_YES, values[key]) if key in values else (_NO, b"")
        if what == _DELETE:
            return (_YES if values.pop(key, None) is not None else _NO), b""
        if what == _ADD:
            try:
                value = str(int(values.get(key, b"0")) + int(value)).encode()
            except ValueError:
                return _NO, b""
        if sum(map(len, values.values())) + len(value) > _MAX_NUM_BYTES:
            return _NO, b""
        values[key] = value
        return _YES, value


class MeetingGuest:
    """A rank's side; may be called from any thread, and asks one thing at a time."""

    def __init__(self, handle: TcpHandle) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        open_link(self._socket, handle.address, handle.keys, is_engine=False)
        self._lock = threading.Lock()
        self._num_asked = 0

    def set(self, key: bytes, value: bytes) -> bool:
        """Whether there was room for it."""
        return self._ask(_SET, key, value)[0] == _YES

    def get(self, key: bytes, timeout_seconds: float) -> bytes:
        """The value, as soon as somebody has set it; TransportTimeoutError where nobody does."""
        deadline = time.monotonic() + timeout_seconds
        while (value := self.look(key)) is None:
            if time.monotonic() > deadline:
                raise TransportTimeoutError(f"another rank did not come within {timeout_seconds:g} s")
            time.sleep(_LOOK_SECONDS)
        return value

    def look(self, key: bytes) -> bytes | None:
        """The value, if somebody has set it."""
        found, value = self._ask(_GET, key)
        return value if found == _YES else None

    def add(self, key: bytes, amount: int) -> int:
        """The sum of what all have added; TransportError where there is no number or no room."""
        found, value = self._ask(_ADD, key, str(amount).encode())
        if found != _YES:
            raise TransportError(f"nothing can be added to {key!r} where ranks meet: it is no number, or the place is full")
        return int(value)

    def delete(self, key: bytes) -> bool:
        """Whether it was there."""
        return self._ask(_DELETE, key)[0] == _YES

    def close(self) -> None:
        """Leaves."""
        self._socket.close(linger=0)

    def _ask(self, what: bytes, key: bytes, value: bytes = b"") -> tuple[bytes, bytes]:
        with self._lock:
            self._num_asked += 1
            number = str(self._num_asked).encode()
            self._socket.send_multipart([number, what, key, value])
            deadline = time.monotonic() + _ANSWER_SECONDS
            while self._socket.poll(max(0, int((deadline - time.monotonic()) * 1000))):
                frames = self._socket.recv_multipart()
                if frames[0] == number:
                    return frames[1], frames[2]
            raise TransportTimeoutError(f"EngineCore, where ranks meet, did not answer within {_ANSWER_SECONDS:g} s")
