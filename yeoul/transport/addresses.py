"""The addresses of links, between a web process and EngineCore or to this host; knows nothing of what crosses them."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from yeoul.errors import ConfigError, TransportError

_IPC = "ipc://"


def ipc_addresses(folder: str) -> tuple[str, str]:
    """Fresh addresses (input, output) of sockets in ``folder``; each call gives new ones."""
    name = secrets.token_hex(4)
    return f"{_IPC}{folder}/in-{name}", f"{_IPC}{folder}/out-{name}"


def tcp_addresses(address: str) -> tuple[str, str]:
    """The addresses (input, output) that ``tcp://host:port`` stands for: that port, and the one after it.

    Raises:
        ConfigError: the address is not of that form.
    """
    expected = f"expected an engine address such as tcp://10.0.0.5:5555 (the next port is used too); got {address!r}"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise ConfigError(expected) from error
    if parts.scheme != "tcp" or not parts.hostname or port is None or not 1 <= port <= 65534 or parts.path or parts.query:
        raise ConfigError(expected)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"tcp://{host}:{port}", f"tcp://{host}:{port + 1}"


def address_towards(host: str) -> str:
    """The address of this host by which it reaches ``host``, which may be itself.

    Raises:
        TransportError: it does not reach it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 1, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError as error:
        raise TransportError(f"this host does not reach {host}: {error.strerror}") from error


def is_ipc(address: str) -> bool:
    """Whether both ends of this address are on one host, with the file system's rights as its guard."""
    return address.startswith(_IPC)


def unlink_ipc(addresses: Iterable[str]) -> None:
    """Take the names of ipc sockets out of the file system; links that are already connected live on without them."""
    for address in addresses:
        if is_ipc(address):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address.removeprefix(_IPC))
