"""HTTP as bytes on a socket: what no client library would send, and what comes back, a broken connection included."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from typing import Any


@dataclass
class RawAnswer:
    """``status`` is None where the connection was closed without an answer; ``body`` is what came after the headers."""

    status: int | None
    body: bytes

    @property
    def error(self) -> Any:
        """OpenAI's error object, or Ollama's text."""
        return json.loads(self.body)["error"]


def connect(port: int, *, receive_buffer_bytes: int | None = None, timeout_seconds: float = 30.0) -> socket.socket:
    """A connection whose waits have an end."""
    connection = socket.socket()
    if receive_buffer_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    connection.settimeout(timeout_seconds)
    connection.connect(("127.0.0.1", port))
    return connection


def read_all(connection: socket.socket, received: bytearray | None = None) -> RawAnswer:
    """Until the server closes the connection; ``received`` is what has been read of the answer already."""
    received = bytearray() if received is None else received
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(1 << 16):
            received += chunk
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    return RawAnswer(int(head.split()[1]) if head else None, body)


def exchange(port: int, payload: bytes, *, timeout_seconds: float = 30.0) -> RawAnswer:
    """Sends these bytes, and reads until the server closes the connection, or has sent one whole answer of a known length."""
    with connect(port, timeout_seconds=timeout_seconds) as connection:
        with contextlib.suppress(ConnectionError):  # what was sent was enough for the server
            connection.sendall(payload)
        return read_all(connection)


def request_bytes(method: str, path: str, headers: dict[str, str] | list[tuple[str, str]], body: bytes = b"") -> bytes:
    """A request after which the connection is closed."""
    lines = list(headers.items()) if isinstance(headers, dict) else headers
    lines = [("host", "localhost"), ("connection", "close"), *lines]
    if body:
        lines.append(("content-length", str(len(body))))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body
