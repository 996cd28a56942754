"""Binds the socket that the server will listen on, before anything is started; knows no HTTP. ``server.py`` calls it."""

from __future__ import annotations

import errno
import logging
import resource
import socket

from yeoul.errors import ConfigError

logger = logging.getLogger(__name__)

_BACKLOG = 2048


def allow_descriptors(num_wanted: int) -> None:
    """Raises this process's own limit on open descriptors, as far as the system lets it; too few is a line in the log."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = num_wanted if hard == resource.RLIM_INFINITY else min(num_wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < num_wanted:
        logger.warning("%d descriptors may be open, fewer than --max-num-connections needs, %d", possible, num_wanted)


def bind_listener(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. Connections wait in its backlog until somebody accepts them.

    Raises:
        ConfigError: the port is in use or not allowed, or the host is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"--host {host!r} cannot be resolved ({error}); give an address of this machine") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {_explain(error)}") from None
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """The address as a client types it; the loopback address where the server listens on every one."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _explain(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop what uses it, or choose another with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address; choose another with --host"
    if error.errno == errno.EACCES:
        return "ports below 1024 need privileges; choose another with --port"
    return error.strerror or str(error)
