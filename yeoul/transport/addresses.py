"""The addresses of the two links between a web process and EngineCore; knows nothing of sockets; called by both ends."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

from yeoul.errors import ConfigError

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


def is_ipc(address: str) -> bool:
    """Whether both ends of this address are on one host, with the file system's rights as its guard."""
    return address.startswith(_IPC)


def unlink_ipc(addresses: Iterable[str]) -> None:
    """Take the names of ipc sockets out of the file system; links that are already connected live on without them."""
    for address in addresses:
        if is_ipc(address):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address.removeprefix(_IPC))
