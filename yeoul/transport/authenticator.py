"""The thread that says which CURVE clients may connect; knows one public key and nothing of messages; called by ``sockets``.

The protocol is ZAP 1.0 (https://rfc.zeromq.org/spec/27): ZeroMQ asks over an inproc socket at each handshake.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import zmq
from zmq.utils import z85

from yeoul.errors import ProcessDeadError
from yeoul.transport.thread_names import start_thread

_ENDPOINT = "inproc://zeromq.zap.01"
_NUM_REQUEST_FRAMES = 7


def start_authenticator(
    context: zmq.Context[zmq.Socket[bytes]], client_public: str, on_failure: Callable[[ProcessDeadError], object] | None
) -> threading.Thread:
    """Admit only the client that proves to hold the secret of ``client_public`` (Z85). The thread ends with the context."""
    socket = context.socket(zmq.REP)
    socket.linger = 0
    socket.bind(_ENDPOINT)
    admitted = z85.decode(client_public.encode())
    return start_thread("curve_authenticator", lambda: _answer(socket, admitted), on_failure)


def _answer(socket: zmq.Socket[bytes], admitted: bytes) -> None:
    with contextlib.suppress(zmq.ContextTerminated), socket:  # whatever ends it: a context waits for its sockets
        while True:
            frames = socket.recv_multipart()
            socket.send_multipart(_decide(frames, admitted))


def _decide(frames: list[bytes], admitted: bytes) -> list[bytes]:
    """The answer to [version, request id, domain, address, identity, mechanism, public key]."""
    request_id = frames[1] if len(frames) > 1 else b""
    if len(frames) == _NUM_REQUEST_FRAMES and frames[5] == b"CURVE" and frames[6] == admitted:
        return [b"1.0", request_id, b"200", b"OK", b"client", b""]
    return [b"1.0", request_id, b"400", b"this key is not known here", b"", b""]
