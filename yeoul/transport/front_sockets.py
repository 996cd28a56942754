"""The keeper's ends of the link to one web process; knows bytes and nothing of what they mean.

The web process has ``ClientSockets``, as towards EngineCore: what it sends comes by PUSH and PULL, what it gets goes by
DEALER, both over ipc. Called by ``keeper_process``, on its asyncio loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import zmq

from yeoul.errors import TransportError
from yeoul.transport.addresses import ipc_addresses, unlink_ipc
from yeoul.transport.sockets import open_link

_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)
_RETRY_SECONDS = 0.002
_NUM_AT_A_TIME = 32  # then whoever waits on the loop has its turn


class FrontContext:
    """ZeroMQ's own thread, which all links share. To be closed last."""

    def __init__(self) -> None:
        self.zmq_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def close(self) -> None:
        """Waits until all links are closed."""
        self.zmq_context.term()


class FrontSockets:
    """``addresses`` are where the web process connects to. ``take`` is called with each message, on the running loop."""

    def __init__(self, context: FrontContext, folder: str, take: Callable[[bytes], None]) -> None:
        """Binds both sockets in ``folder``.

        Raises:
            TransportError: there is no descriptor or memory left for them.
        """
        self.addresses = ipc_addresses(folder)
        self.num_sent = self.num_sent_bytes = self.num_received = self.num_received_bytes = 0
        self._unsent: deque[bytes] = deque()
        self._was_reached = False
        self._take = take
        self._is_closed = False
        self._loop = asyncio.get_running_loop()
        try:
            self._input = context.zmq_context.socket(zmq.PULL)
            open_link(self._input, self.addresses[0], None, is_engine=True)
            self._output = context.zmq_context.socket(zmq.DEALER)
            open_link(self._output, self.addresses[1], None, is_engine=True)
        except zmq.ZMQError as error:
            raise TransportError(f"cannot open the link to a web process: {error.strerror}") from error
        self._fd = int(self._input.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._take_some)
        self._loop.call_soon(self._take_some)

    def send(self, payload: bytes) -> None:
        """Queues a message; never blocks. What is sent to a web process that is gone is lost.

        One that was never reached is waited for: what it says first can arrive before it has joined this link.
        """
        if not self._is_closed:
            self._unsent.append(payload)
            self._send_all()

    def _send_all(self) -> None:
        while self._unsent and not self._is_closed:
            payload = self._unsent[0]
            try:
                self._output.send(payload, zmq.NOBLOCK)
            except zmq.Again:
                if not self._was_reached:
                    self._loop.call_later(_RETRY_SECONDS, self._send_all)
                    return
            else:
                self._was_reached = True
                self.num_sent += 1
                self.num_sent_bytes += len(payload)
            self._unsent.popleft()

    def close(self) -> None:
        """Closes both; what is unsent is lost, as its reader is gone. May be called twice."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._fd)
            self._input.close(linger=0)
            self._output.close(linger=0)
            unlink_ipc(self.addresses)

    def _take_some(self) -> None:
        """ZeroMQ's descriptor tells of changes alone: the socket has to be asked until it has nothing more."""
        for _ in range(_NUM_AT_A_TIME):
            if self._is_closed or not int(self._input.get(_EVENTS)) & _POLLIN:
                return
            frames = self._input.recv_multipart()
            self.num_received += 1
            self.num_received_bytes += len(frames[-1])
            self._take(frames[-1])
        self._loop.call_soon(self._take_some)
