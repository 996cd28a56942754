"""The two ZeroMQ links between a web process and EngineCore; knows bytes and nothing of what they mean.

Input: PUSH (client) to PULL (engine), frames [client id, payload]. Output: ROUTER (engine) to DEALER (client), addressed by
client id. The engine binds and the client connects: on one host ipc sockets in a private folder, apart tcp with CURVE.
Called by ``engine_process``: its client, and EngineCore's two socket threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable

import zmq

from yeoul.errors import ConfigError, ProcessDeadError, TransportClosedError, TransportError
from yeoul.transport.addresses import is_ipc, unlink_ipc
from yeoul.transport.authenticator import start_authenticator
from yeoul.transport.curve_keys import CurveKeys

logger = logging.getLogger(__name__)

_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)  # enumerations are slow to look up and to combine
_RETRY_SECONDS = 0.002
_IPC_RECONNECT_MILLISECONDS = 20  # while the engine starts, that is: a link that breaks later is closed
_NUM_DESCRIPTORS = 32  # more than a context with two sockets opens; ZeroMQ aborts the process where it gets none
_HEARTBEAT_MILLISECONDS = 5_000
_LINGER_MILLISECONDS = 500
_MAX_MESSAGE_BYTES = 1 << 30


class ClientSockets:
    """The web process's ends. Everything here is called on one asyncio loop's thread.

    ``client_id`` is what the engine answers to.
    """

    def __init__(self, input_address: str, output_address: str, keys: CurveKeys | None = None) -> None:
        """Open both sockets, on the running loop; they connect as soon as the engine is there.

        Raises:
            ConfigError: tcp without keys, or an address that cannot be used.
            TransportError: there is no descriptor, thread or memory left for them.
        """
        self.client_id = b"web-" + secrets.token_hex(8).encode()
        self.addresses = (input_address, output_address)
        self._inbox: deque[bytes] = deque()
        self._monitors: list[zmq.Socket[bytes]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._is_closed = False
        self.num_sent = self.num_sent_bytes = self.num_received = self.num_received_bytes = 0
        _check_descriptors()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._input = self._context.socket(zmq.PUSH)
            open_link(self._input, input_address, keys, is_engine=False)
            self._output = self._context.socket(zmq.DEALER)
            self._output.setsockopt(zmq.ROUTING_ID, self.client_id)
            open_link(self._output, output_address, keys, is_engine=False)
            self._output_fd = int(self._output.getsockopt(zmq.FD))
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._output_fd, self._take_all)
        except BaseException as error:
            self._context.destroy(linger=0)
            if isinstance(error, zmq.ZMQError):
                raise TransportError(f"cannot open the link to EngineCore: {error.strerror}") from error
            raise

    def send(self, payload: bytes) -> None:
        """Queue a message for the engine; never blocks. Before the engine has connected, messages wait in their order.

        Raises:
            TransportClosedError: ``close()`` was called.
        """
        if self._is_closed:
            raise TransportClosedError("the link to EngineCore is closed")
        self._input.send_multipart([self.client_id, payload], zmq.NOBLOCK)
        self.num_sent += 1
        self.num_sent_bytes += len(payload)

    async def receive(self) -> bytes:
        """Wait for the engine's next message; one caller at a time. Cancelling the wait loses none.

        Raises:
            TransportClosedError: ``close()`` was called, and all that had come by then is taken.
        """
        while not self._inbox:
            if self._is_closed:
                raise TransportClosedError("the link to EngineCore is closed")
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._inbox.popleft()

    @property
    def num_waiting(self) -> int:
        """How many messages have come that nobody has taken yet."""
        return len(self._inbox)

    def monitors(self) -> list[zmq.Socket[bytes]]:
        """A socket for each link, readable once the link has broken; another thread may wait on them until ``close()``."""
        self._monitors = [link.get_monitor_socket(zmq.EVENT_DISCONNECTED) for link in (self._input, self._output)]
        return self._monitors

    def close(self, linger_seconds: float = 0.0) -> None:
        """Close both sockets; what is unsent gets ``linger_seconds``, what came can be received. May be called twice."""
        if self._is_closed:
            return
        self._take_all()
        self._is_closed = True
        self._wake()
        self._loop.remove_reader(self._output_fd)
        for link, events in zip((self._input, self._output), self._monitors, strict=False):
            link.disable_monitor()  # first: ZeroMQ waits for ever for the reader of an event
            events.close(linger=0)
        self._output.close(linger=0)
        self._input.close(linger=int(linger_seconds * 1000))
        self._context.term()
        unlink_ipc(self.addresses)

    def _take_all(self) -> None:
        """Takes every message that is here.

        ZeroMQ's descriptor does not say that a message waits, but that something has changed since the socket was last
        asked: it has to be asked until it has nothing more.
        """
        while int(self._output.get(_EVENTS)) & _POLLIN:
            payload = self._output.recv()
            self.num_received += 1
            self.num_received_bytes += len(payload)
            self._inbox.append(payload)
        if self._inbox:
            self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class EngineContext:
    """What the engine's two sockets share: ZeroMQ's own thread and, on tcp, the thread that admits clients."""

    def __init__(self, keys: CurveKeys | None = None, on_failure: Callable[[ProcessDeadError], object] | None = None) -> None:
        """``on_failure`` hears, from that thread, if it ends by an error: nobody could join any longer."""
        self.keys = keys
        self.zmq_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authenticator = (
            start_authenticator(self.zmq_context, keys.client_public, on_failure) if keys is not None else None
        )

    def close(self) -> None:
        """To be called last, after both sockets were closed; waits until what they had to send is sent or given up."""
        self.zmq_context.term()
        if self._authenticator is not None:
            self._authenticator.join()


class EngineInput:
    """The engine's receiving end, used by one thread; ``interrupt()`` may come from any."""

    def __init__(self, context: EngineContext, address: str) -> None:
        """Bind the socket.

        Raises:
            ConfigError: tcp without keys, or an address that cannot be used.
        """
        self._socket = context.zmq_context.socket(zmq.PULL)
        _open_or_close(self._socket, address, context.keys)
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._wake_fd, zmq.POLLIN)

    def receive(self) -> tuple[bytes, bytes]:
        """Wait for the next message: (client id, payload). Frames of another form are logged and dropped.

        Raises:
            TransportClosedError: ``interrupt()`` was called; also for every call after it.
        """
        while True:
            if self._wake_fd in dict(self._poller.poll()):
                raise TransportClosedError("the engine's input was interrupted")
            frames = self._socket.recv_multipart()
            if len(frames) == 2:
                return frames[0], frames[1]
            logger.warning("dropped a message of %d frames; expected a client id and a payload", len(frames))

    def interrupt(self) -> None:
        """Wake the thread in ``receive`` for good; from any thread, before ``close()``."""
        os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        """Close the socket, once, on the thread that receives or after it has ended."""
        self._socket.close(linger=0)
        os.close(self._wake_fd)


class EngineOutput:
    """The engine's sending end, used by one thread."""

    def __init__(self, context: EngineContext, address: str) -> None:
        """Bind the socket.

        Raises:
            ConfigError: tcp without keys, or an address that cannot be used.
        """
        self._socket = context.zmq_context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # a link that ended keeps no queue: what follows is dropped
        _open_or_close(self._socket, address, context.keys)
        self._reached: set[bytes] = set()

    def send(self, client_id: bytes, payload: bytes, connect_timeout_seconds: float = 5.0) -> bool:
        """Send to one client; False, and the message is dropped, if it is gone.

        A client that was never reached before is waited for: its first message can arrive on the other link before this
        one has been joined.
        """
        deadline = time.monotonic() + connect_timeout_seconds
        while not self._try_send(client_id, payload):
            if client_id in self._reached or time.monotonic() > deadline:
                self._reached.discard(client_id)
                return False
            time.sleep(_RETRY_SECONDS)
        self._reached.add(client_id)
        return True

    def close(self) -> None:
        """Close the socket; what is still unsent gets a moment. May be called twice."""
        self._socket.close(linger=_LINGER_MILLISECONDS)

    def _try_send(self, client_id: bytes, payload: bytes) -> bool:
        try:
            self._socket.send_multipart([client_id, payload])
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise TransportError(f"the link to a client broke: {error.strerror}") from error
        return True


def _open_or_close(socket: zmq.Socket[bytes], address: str, keys: CurveKeys | None) -> None:
    try:
        open_link(socket, address, keys, is_engine=True)
    except BaseException:
        socket.close(linger=0)
        raise


def open_link(socket: zmq.Socket[bytes], address: str, keys: CurveKeys | None, *, is_engine: bool) -> None:
    """Set the options of a link and bind or connect it. Queues have no limit: what is in flight is bounded by requests."""
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    if is_ipc(address):
        socket.setsockopt(zmq.RECONNECT_IVL, _IPC_RECONNECT_MILLISECONDS)
    else:
        _secure(socket, address, keys, is_engine=is_engine)
    try:
        if is_engine:
            socket.bind(address)
        else:
            socket.connect(address)
    except zmq.ZMQError as error:
        hint = "another process uses it" if error.errno == zmq.EADDRINUSE else os.strerror(error.errno or 0)
        raise ConfigError(f"cannot use the address {address}: {hint}; choose another one") from error


def _secure(socket: zmq.Socket[bytes], address: str, keys: CurveKeys | None, *, is_engine: bool) -> None:
    if keys is None:
        raise ConfigError(f"{address} would be open to anybody; give both ends the same --engine-key-file")
    for option, value in ((zmq.IPV6, 1), (zmq.TCP_KEEPALIVE, 1), (zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)):
        socket.setsockopt(option, value)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MILLISECONDS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * _HEARTBEAT_MILLISECONDS)
    if is_engine:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.ZAP_DOMAIN, b"yeoul")
    else:
        socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server_public.encode())
    public, secret = (keys.server_public, keys.server_secret) if is_engine else (keys.client_public, keys.client_secret)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, public.encode())
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())


def _check_descriptors() -> None:
    """Raises TransportError where this process has too few descriptors left for a ZeroMQ context."""
    with contextlib.ExitStack() as opened:
        try:
            for _ in range(_NUM_DESCRIPTORS):
                opened.callback(os.close, os.eventfd(0, os.EFD_CLOEXEC))
        except OSError as error:
            raise TransportError(f"cannot open the link to EngineCore: {error.strerror}") from error
