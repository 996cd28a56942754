"""Ends tcp connections of a process of ours, as a firewall that has forgotten them would."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from pathlib import Path

_PIDFD_GETFD = 438
_ESTABLISHED = "01"


def tcp_links_of(pid: int) -> dict[int, int]:
    """The descriptors of its connections over tcp, and the port of the other end of each."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    ports = {f"socket:[{row[9]}]": int(row[2].rpartition(":")[2], 16) for row in rows if row[3] == _ESTABLISHED}
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if (port := ports.get(os.readlink(entry))) is not None:
                found[int(entry.name)] = port
    return found


def cut(pid: int, descriptor: int) -> None:
    """Both of its ends are told that it is over."""
    pidfd = os.pidfd_open(pid)
    try:
        taken = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, descriptor, 0)
        if taken < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        with socket.socket(fileno=taken) as connection:
            connection.shutdown(socket.SHUT_RDWR)
    finally:
        os.close(pidfd)
