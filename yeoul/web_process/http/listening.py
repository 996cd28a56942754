"""Binds the sockets that the server will listen on, before anything is started; knows no HTTP. ``server.py`` calls it."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Sequence
from typing import Any

from yeoul.errors import ConfigError, MachineError

logger = logging.getLogger(__name__)

_BACKLOG = 2048
_NUM_TRIES = 20  # to find a port that is free on every address


def bind_listeners(host: str, port: int) -> list[socket.socket]:
    """A listening TCP socket for each address of ``host``, all on one port; port 0 takes one that is free on each.

    Connections wait in their backlogs until somebody accepts them. An address that this machine does not have (``localhost``
    is ``::1`` in many a container without IPv6) is passed over as long as there is another.

    Raises:
        ConfigError: the host is not one of this machine.
        MachineError: the port is in use or not allowed.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"--host {host!r} cannot be resolved ({error}); give an address of this machine") from None
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    for _ in range(_NUM_TRIES if port == 0 else 1):
        try:
            return _bind_all(addresses, port)
        except OSError as error:
            failure = error
    raise MachineError(f"cannot listen on {host}:{port}: {_explain(failure)}") from None


def url_of(listeners: Sequence[socket.socket], scheme: str = "http") -> str:
    """The address as a client types it, of IPv4 if there is one; that of loopback where the server listens on all."""
    chosen = min(listeners, key=lambda listener: listener.family != socket.AF_INET)
    host, port = chosen.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _bind_all(addresses: Sequence[tuple[int, tuple[Any, ...]]], port: int) -> list[socket.socket]:
    """Raises OSError where one of them is taken, or none is this machine's; then nothing stays open."""
    listeners: list[socket.socket] = []
    missing: OSError | None = None  # what the machine does not have: the address, or its kernel the family
    is_alone = len(addresses) == 1 and socket.has_dualstack_ipv6()  # else every IPv4 address has a socket of its own
    with contextlib.ExitStack() as opened:
        for family, (host, _, *scope) in addresses:
            try:
                listener = socket.create_server(
                    (host, port, *scope),
                    family=family,
                    backlog=_BACKLOG,
                    dualstack_ipv6=is_alone and family == socket.AF_INET6,
                )
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
                continue
            opened.enter_context(listener)
            listener.setblocking(False)
            # Its connections inherit it: an answer is written in parts, and not every loop asks for it by itself.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            port = port or listener.getsockname()[1]
            listeners.append(listener)
        if missing is not None and not listeners:
            raise missing
        opened.pop_all()
    if missing is not None:
        logger.info("listening on %d of %d addresses: this machine has no more of them", len(listeners), len(addresses))
    return listeners


def _explain(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop what uses it, or choose another with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address; choose another with --host"
    if error.errno == errno.EACCES:
        return "ports below 1024 need privileges; choose another with --port"
    return error.strerror or str(error)


def share_listeners(listeners: Sequence[socket.socket], count: int) -> list[list[socket.socket]]:
    """Sets of listening sockets for so many processes, the given ones first, between which the kernel deals connections out.

    A socket that all accept from is served by whoever wakes first, of a crowd often by one alone. No other user, and no
    second server, can join them: the first ones were bound before they could be shared. A program of the same user that asks
    for it (SO_REUSEPORT) can. Raises MachineError where sharing is not possible.
    """
    sets = [list(listeners)]
    with contextlib.ExitStack() as opened:
        try:
            for one in listeners:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sets += [[opened.enter_context(_alike(one)) for one in listeners] for _ in range(count - 1)]
        except OSError as error:
            raise MachineError(f"several web processes cannot share a port here: {error.strerror}") from error
        opened.pop_all()
    return sets


def _alike(listener: socket.socket) -> socket.socket:
    """Another one of the same address."""
    other = socket.socket(listener.family, listener.type)
    try:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if other.family == socket.AF_INET6:
            only = listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        other.bind(listener.getsockname())
        other.listen(_BACKLOG)
        other.setblocking(False)
    except BaseException:
        other.close()
        raise
    return other
